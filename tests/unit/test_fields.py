"""The fields of an attempt that was sent a part of its state."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from penstock.errors import InvalidState
from penstock.fields import Fields

WHOLE = {"a": 1, "big": [1, 2], "log": ["old"], "z": {"deep": True}}
SENT = {"a": 1, "gone": None}


class Partial:
    """Fields with a part of `WHOLE`, and how often the whole was fetched."""

    def __init__(self, earlier: str = "", left_out: str = '["big","log","z"]') -> None:
        self.asked: list[str] = []
        self.fields = Fields(json.dumps(SENT), {"log": "append"}, earlier, self._fetch, left_out)

    @property
    def fetched(self) -> int:
        return len(self.asked)

    def _fetch(self, names: str) -> str:
        self.asked.append(names)
        names = json.loads(names) if names else list(WHOLE)
        return json.dumps({name: WHOLE[name] for name in names if name in WHOLE})


def test_a_field_that_was_sent_is_read_without_a_fetch() -> None:
    partial = Partial()
    assert partial.fields.read("a") == 1
    assert "a" in partial.fields
    assert partial.fetched == 0


def test_a_field_known_to_be_absent_needs_no_fetch() -> None:
    partial = Partial()
    assert "gone" not in partial.fields
    with pytest.raises(KeyError):
        partial.fields.read("gone")
    with pytest.raises(KeyError):
        partial.fields.delete("gone")
    assert partial.fetched == 0


def test_the_first_look_at_another_field_fetches_that_one() -> None:
    partial = Partial()
    for _ in range(2):
        assert partial.fields.read("big") == [1, 2]
        assert partial.fields.read("z") == {"deep": True}
    assert partial.asked == ['["big"]', '["z"]']
    assert partial.fields.names() == ["a", "big", "log", "z"]
    assert partial.fields.read("log") == ["old"]
    assert partial.asked[2:] == [""]


def test_what_was_not_left_out_is_known_to_be_absent() -> None:
    partial = Partial()
    for _ in range(2):
        assert "nowhere" not in partial.fields
        with pytest.raises(KeyError):
            partial.fields.read("nowhere")
    assert "big" in partial.fields
    assert partial.asked == []


def test_where_too_many_were_left_out_an_absent_field_is_asked_for_once() -> None:
    partial = Partial(left_out="*")
    for _ in range(2):
        assert "nowhere" not in partial.fields
        assert partial.fields.read("big") == [1, 2]
    assert partial.asked == ['["nowhere"]', '["big"]']


@pytest.mark.parametrize(
    "look",
    [
        lambda fields: fields.names() == list(WHOLE),
        lambda fields: list(fields) == list(WHOLE),
        lambda fields: fields.found() == WHOLE,
    ],
)
def test_whatever_asks_for_all_fields_sees_them(look: Callable[[Fields], bool]) -> None:
    partial = Partial()
    assert look(partial.fields)
    assert partial.fetched == 1


def test_writing_needs_no_fetch() -> None:
    partial = Partial()
    partial.fields.write("big", 1)
    partial.fields.write("log", ["new"])
    partial.fields.overwrite("z", None)
    partial.fields.write("unseen", None)
    assert partial.fields.read("big") == 1
    assert json.loads(partial.fields.changes_json()) == {
        "set": {"big": 1, "log": ["new"]},
        "overwrite": {"z": None},
        "del": ["unseen"],
    }
    assert partial.fetched == 0


def test_a_fold_is_read_from_the_fetched_value() -> None:
    partial = Partial()
    partial.fields.write("log", ["new"])
    assert partial.fields.read("log") == ["old", "new"]
    assert partial.fetched == 1


def test_deleting_an_unseen_field_says_whether_there_is_one() -> None:
    partial = Partial()
    with pytest.raises(InvalidState):
        partial.fields.delete("log")
    partial.fields.delete("big")
    assert "big" not in partial.fields
    with pytest.raises(KeyError):
        partial.fields.delete("nowhere")
    assert json.loads(partial.fields.changes_json()) == {"del": ["big"]}
    assert partial.fields.names() == ["a", "log", "z"]


def test_a_value_that_was_read_stays_the_same_object() -> None:
    fields = Fields(json.dumps({"list": []}), {}, "", lambda _: '{"list":[],"z":1}')
    before: Any = fields.read("list")
    assert fields.read("z") == 1
    assert fields.names() == ["list", "z"]
    assert fields.read("list") is before


def test_changes_of_earlier_attempts_stand_over_what_is_fetched() -> None:
    partial = Partial('{"set":{"big":9},"del":["a"]}')
    assert partial.fields.read("big") == 9
    assert "a" not in partial.fields
    assert partial.fetched == 0
    assert partial.fields.names() == ["big", "log", "z"]


def test_a_fetch_that_fails_leaves_the_fields_as_they_were() -> None:
    def fail(_names: str) -> str:
        raise ValueError("gone")

    fields = Fields(json.dumps(SENT), {}, "", fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="gone"):
            fields.read("big")
    assert fields.read("a") == 1
