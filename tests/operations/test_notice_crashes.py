"""A stop is told at least once, wherever the host that should have told it was killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock._core import flow_key
from tests.faults.notified import POINTS
from tests.support.database import SHARD
from tests.support.databases import Database
from tests.support.host import Host
from tests.support.waiting import eventually


@pytest.mark.parametrize("point", POINTS)
def test_a_stop_is_told_although_the_host_died(
    database: Database, start_host: Callable[..., Host], point: str
) -> None:
    first = start_host(["-m", "tests.faults.notified", database.url, point])
    assert first.wait() == -9, first.output()
    ((flow_id,),) = database.rows("SELECT flow_id FROM penstock_outbox")
    second = start_host(["-m", "tests.faults.notified", database.url])
    output = second.wait_for_output("told bus")
    assert f"told bus {flow_key(SHARD, flow_id)} completed {{'n': 8}}" in output
    eventually(
        lambda: database.rows("SELECT count(*) FROM penstock_outbox") == [(0,)], what="an empty outbox"
    )
    assert second.output().count("told") == 1
