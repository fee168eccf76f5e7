"""What a log may say of a flow."""

from __future__ import annotations

import re

from penstock._core import flow_key, new_flow_id
from penstock.runtime.correlation import correlation_id, without_keys


def test_flows_of_one_millisecond_have_names_of_their_own_which_hold_nothing_of_the_key() -> None:
    ids = [new_flow_id(1_700_000_000_000) for _ in range(20)]
    names = {correlation_id(3, flow_id) for flow_id in ids}
    assert len(names) > 15
    for name in names:
        assert re.fullmatch(r"3-018bcfe568[0-9a-f]{2}-[0-9a-f]{4}", name)


def test_keys_and_ids_are_taken_out_of_what_is_logged() -> None:
    flow_id = new_flow_id(1_700_000_000_000)
    text = flow_id.hex()
    uuid = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    said = f"flow {flow_key(1, flow_id)}/3: Key (flow_id, ord)=({uuid}, 1) exists; {text}."
    assert without_keys(said) == "flow …/3: Key (flow_id, ord)=(…, 1) exists; …."
