"""Keys and ids across the boundary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._core import flow_key, new_flow_id, parse_flow_key, parse_step_key
from penstock.errors import NotFound

SHARDS = st.integers(1, 2**32 - 1)
IDS = st.binary(min_size=16, max_size=16)


@given(shard=SHARDS, flow_id=IDS, step=st.integers(0, 2**64 - 1))
def test_a_key_is_read_as_it_was_written(shard: int, flow_id: bytes, step: int) -> None:
    key = flow_key(shard, flow_id)
    assert parse_flow_key(key) == (shard, flow_id)
    assert parse_step_key(f"{key}/{step}") == (shard, flow_id, step)


@given(text=st.text() | st.from_regex(r"[0-9]{1,11}-[a-z2-7]{24,27}(/[0-9]*)?"))
def test_text_is_a_key_that_writes_itself_or_none(text: str) -> None:
    try:
        shard, flow_id = parse_flow_key(text)
    except NotFound:
        return
    assert flow_key(shard, flow_id) == text


@pytest.mark.parametrize("key", ["", "1-", "1-x/1", flow_key(1, bytes(16)), flow_key(1, bytes(16)) + "/-1"])
def test_what_is_no_step_key_names_nothing(key: str) -> None:
    with pytest.raises(NotFound, match="no step has the key"):
        parse_step_key(key)


def test_ids_of_later_flows_sort_behind_and_none_comes_twice() -> None:
    ids = [new_flow_id(now_ms) for now_ms in range(1, 1_000)]
    assert sorted(ids) == ids
    assert len({new_flow_id(1) for _ in range(1_000)}) == 1_000


def test_an_id_of_another_length_is_no_id() -> None:
    with pytest.raises(ValueError, match="an id has 16 bytes"):
        flow_key(1, bytes(15))
