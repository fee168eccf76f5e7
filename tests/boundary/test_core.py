"""A core as Python drives it: rows in, rows out, and what it refuses."""

from __future__ import annotations

import json

import pytest

from penstock import Graph
from penstock._core import Core, WorkerCodec, compile_graph
from penstock.errors import CorruptJournal, Invalid, NotFound
from tests.boundary.driver import NOW, REPLICA, WORKER, CoreDriver

CHAIN = Graph("chain").chain("a", "b")


def test_a_flow_goes_from_its_creation_to_its_end() -> None:
    driver = CoreDriver(CHAIN)
    flow_id = driver.create("chain", n=1)
    created, report = driver.commit()
    assert [row[0] for row in created.flows] == report.created == [flow_id]
    assert (created.events, created.units) == (0, 1)

    (step,) = driver.steps()
    assert step[9:11] == ("a", "a")
    assert json.loads(step[12]) == {"n": 1}
    driver.answer(step[1], WorkerCodec.DONE, changes='{"set":{"n":2}}')
    batch, _ = driver.commit()
    assert [(row[1], row[2], row[3], row[4], row[6], row[9]) for row in batch.journal] == [
        (1, 1, "a", "done", REPLICA, 1)
    ]

    (step,) = driver.steps()
    assert json.loads(step[12]) == {"n": 2}
    driver.answer(step[1], WorkerCodec.DONE)
    batch, report = driver.commit()
    assert batch.live_deletes == [(flow_id, REPLICA, 1, 0)]
    assert report.stopped == [(flow_id, "chain", flow_id, "completed", '{"n":2}', None, None)]
    assert driver.core.counts() == (0, 0, 0)
    assert driver.core.take_batch() is None


def test_flows_are_created_all_or_none() -> None:
    driver = CoreDriver(Graph("sum").chain("a").reducer("n", "add"))
    rows = [driver.new_row("sum", n=1), driver.new_row("sum", n="one")]
    with pytest.raises(Invalid, match="field `n`: the reducer `add` takes a number"):
        driver.core.create(rows, watch_creation=False, watch_stop=False)
    assert not driver.core.has_batch()
    assert driver.core.owned() == []


def test_a_claimed_flow_goes_on_behind_its_journal_and_a_broken_one_is_named() -> None:
    first = CoreDriver(CHAIN)
    first.create("chain")
    first.commit()
    first.answer(first.steps()[0][1], WorkerCodec.DONE)
    batch, _ = first.commit()
    journal = [(row[1], row[2], row[3], row[4], row[5], row[10], row[11]) for row in batch.journal]

    driver = CoreDriver(CHAIN)
    good, bad = (
        driver.claimed_row("chain", journal),
        driver.claimed_row("chain", [(1, 1, "a", "melted", 0, NOW, "{}")]),
    )
    ((flow_id, reason),) = driver.core.load([bad, good], NOW)
    assert flow_id == bad[0]
    assert "melted" in reason
    assert driver.core.owned_of([bad[0], good[0]]) == [good[0]]
    assert [step[9] for step in driver.steps()] == ["b"]


def test_bytes_that_are_no_frames_are_refused() -> None:
    driver = CoreDriver(CHAIN)
    for data in (b"\xff\xff\xff\xff", b"\x01\0\0\0\x63"):
        with pytest.raises(CorruptJournal):
            driver.core.receive(WORKER, data, NOW)
        driver.core.worker_gone(WORKER, "it sent nonsense", NOW)
        driver.core.worker_ready(WORKER)


def test_a_frame_that_only_an_engine_sends_is_refused() -> None:
    driver = CoreDriver(CHAIN)
    with pytest.raises(CorruptJournal, match="only engines send"):
        driver.core.receive(WORKER, WorkerCodec.stop(), NOW)


def test_what_the_core_does_not_know_is_named() -> None:
    graph_id, _, _ = compile_graph(CHAIN.definition())
    with pytest.raises(Invalid, match='no option "rooom"'):
        Core(REPLICA, 1, {"rooom": 1})
    core = Core(REPLICA, 1, {})
    with pytest.raises(NotFound, match='"shop" names a graph that was never added'):
        core.publish("shop", graph_id)
    with pytest.raises(ValueError, match="an id has 16 bytes"):
        core.watch(b"short")
    assert core.workflow("shop") is None


def test_no_more_is_claimed_than_workers_will_soon_run() -> None:
    core = Core(1, 1, {"room": 20})
    assert core.room() == 16, "the first are claimed before a worker is up"
    core.worker_ready(1)
    core.worker_ready(2)
    assert core.room() == 20, "two workers would take 32, and 20 fit into memory"
