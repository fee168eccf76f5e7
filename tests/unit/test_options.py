"""Options of a new flow: what is accepted, what is refused and how the refusal reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest

from penstock.errors import Invalid
from penstock.options import FlowOptions, duration_ms, encode_object, instant_ms


def test_the_defaults_are_valid() -> None:
    options = FlowOptions()
    assert (options.priority, options.time_budget_ms, options.start_at_ms) == (None, None, None)
    assert options.baggage_json == b"{}"


def test_good_values_are_kept_and_converted() -> None:
    options = FlowOptions.read(
        {
            "priority": -5,
            "fairness_key": "é" * 127,
            "fairness_weight": 2,
            "time_budget": timedelta(minutes=1),
            "baggage": {"tenant": "a"},
            "start_at": datetime(2030, 1, 1, tzinfo=UTC),
            "tags": {"team": "b", "area": "c"},
        }
    )
    assert options.time_budget_ms == 60_000
    assert options.start_at_ms == 1_893_456_000_000
    assert json.loads(options.baggage_json) == {"tenant": "a"}
    assert options.tags_json == b'{"area":"c","team":"b"}'


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("priority", 2**31, "priority is 2147483648: give an integer of 32 bits"),
        ("priority", True, "priority is True"),
        ("priority", 1.0, "priority is 1.0"),
        ("fairness_key", "x" * 256, "fairness_key is 256 bytes long: at most 255 fit"),
        ("fairness_key", "é" * 128, "fairness_key is 256 bytes long"),
        ("fairness_key", "a\0b", "NUL"),
        ("fairness_key", "\ud800", "lone surrogate"),
        ("fairness_key", None, "fairness_key is None (type NoneType): give a string"),
        ("fairness_weight", 0, "fairness_weight is 0: it must be finite and above zero"),
        ("fairness_weight", -1.5, "above zero"),
        ("fairness_weight", float("nan"), "finite"),
        ("fairness_weight", float("inf"), "finite"),
        ("fairness_weight", "2", "fairness_weight is '2'"),
        ("time_budget", 0, "time_budget is 0: it must be more than zero"),
        ("time_budget", timedelta(seconds=-1), "more than zero"),
        ("time_budget", "1m", "give a timedelta or a finite number of seconds"),
        ("baggage", [1], "give a mapping"),
        ("baggage", {"a": {1, 2}}, "baggage cannot be stored: JSON has no form for a set"),
        ("start_at", datetime(2030, 1, 1), "without a time zone"),  # noqa: DTZ001 # the point of the test
        ("start_at", 17, "give an aware datetime"),
        ("idempotency_key", "", "idempotency_key is empty"),
        ("idempotency_key", "k" * 300, "idempotency_key is 300 bytes long"),
        ("notify_on_stop", 5, "notify_on_stop is 5"),
        ("tags", {"a": 1}, "tag 'a' is 1 (type int): give a string"),
        ("tags", {1: "a"}, "the name of a tag is 1"),
        ("tags", ["a"], "give a mapping of strings to strings"),
        ("thread", 5, "thread is 5"),
        ("delete_on_completion", "yes", "give True or False"),
        ("hold", 1, "give True or False"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_a_way_out(option: str, value: Any, sentence: str) -> None:
    with pytest.raises(Invalid) as refusal:
        FlowOptions.read({option: value})
    assert sentence in str(refusal.value)
    assert refusal.value.code == "invalid"


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Invalid, match=r"unknown option 'priorty': did you mean 'priority'\?"):
        FlowOptions.read({"priorty": 1})


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (0, 0),
        (0.07, 70),
        (0.0001, 1),
        (2, 2000),
        (timedelta(microseconds=1), 1),
        (timedelta(days=1), 86_400_000),
    ],
)
def test_a_duration_becomes_whole_milliseconds_and_never_none_of_them(duration: Any, expected: int) -> None:
    assert duration_ms(duration, "delay") == expected


@pytest.mark.parametrize("duration", [-1, float("inf"), float("nan"), True, None, timedelta(days=40_000)])
def test_what_is_no_duration_is_refused(duration: Any) -> None:
    with pytest.raises(Invalid, match="delay is"):
        duration_ms(duration, "delay")


def test_an_instant_is_the_same_in_every_time_zone() -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert instant_ms(noon.astimezone(timezone(timedelta(hours=5))), "start_at") == instant_ms(
        noon, "start_at"
    )


def test_an_instant_before_1970_is_floored() -> None:
    assert instant_ms(datetime(1969, 12, 31, 23, 59, 59, 999_500, tzinfo=UTC), "start_at") == -1


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("text", "state is 'text' (type str): give a mapping"),
        ({1: "a"}, "state has the key 1: field names are strings"),
        ({"a": [1, {"b": object}]}, "state cannot be stored: JSON has no form for a type"),
        ({"a": float("nan")}, "NaN and infinities have no form in JSON"),
        ({"a": datetime(2030, 1, 1, tzinfo=UTC)}, "write value.isoformat()"),
    ],
)
def test_a_state_that_json_cannot_hold_is_refused_with_a_way_out(state: Any, sentence: str) -> None:
    with pytest.raises(Invalid) as refusal:
        encode_object(state, "state")
    assert sentence in str(refusal.value)


def test_a_state_that_contains_itself_is_refused() -> None:
    state: dict[str, Any] = {}
    state["self"] = state
    with pytest.raises(Invalid, match=r"state cannot be stored: (Circular|it is nested)"):
        encode_object(state, "state")


def test_any_mapping_any_integer_and_any_string_can_be_encoded() -> None:
    state = MappingProxyType({"n": 10**30, "s": "\0\ud800é", "t": (1, 2)})
    encoded = encode_object(state, "state")
    assert encoded.isascii()
    assert json.loads(encoded) == {"n": 10**30, "s": "\0\ud800é", "t": [1, 2]}
