"""Tasks that look at fields which their frame did not carry."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from penstock.binding import Needs
from tests.workers import frames
from tests.workers.apps.sample import app
from tests.workers.driver import Driver, running_inline, running_pool
from tests.workers.frames import DONE, ERROR, Step

POOLS = ["processes", "threads"]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def pool(kind: str) -> AbstractAsyncContextManager[Driver]:
    return running_pool() if kind == "processes" else running_inline(app)


def reading(dispatch: int, how: str = "carrier") -> bytes:
    return frames.steps(Step(dispatch, "read_rest", {"how": how}, left_out="*"))


async def asked(driver: Driver, dispatch: int) -> None:
    await driver.until(lambda: dispatch in driver.fetched, f"the fetch of {dispatch}")


@pytest.mark.parametrize("kind", POOLS)
def test_each_task_says_what_it_needs(kind: str) -> None:
    async def scenario() -> None:
        async with pool(kind) as driver:
            needs = driver.table.needs
            assert needs["double"] == Needs(["n"], takes_flow=False)
            assert needs["read_rest"] == Needs(["how"], takes_flow=True)
            assert needs["double_async"] == Needs(["n"], takes_flow=False)
            assert ("double", False, ["n"], False) in driver.table.rows()

    run(scenario())


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("how", ["carrier", "current", "thread", "dict"])
def test_a_field_that_was_left_out_is_fetched_once(kind: str, how: str) -> None:
    async def scenario() -> None:
        async with pool(kind) as driver:
            driver.pool.send(driver.up[0], reading(1, how))
            await asked(driver, 1)
            driver.pool.send(driver.up[0], frames.state(1, {"how": how, "big": "x" * 3_000_000}))
            result = await driver.result(1)
            assert (result.outcome, result.changes) == (DONE, {"set": {"found": "x" * 3_000_000}})
            assert driver.fetched == [1]

    run(scenario())


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("how", ["carrier", "thread", "dict"])
def test_an_async_task_fetches_too(kind: str, how: str) -> None:
    async def scenario() -> None:
        async with pool(kind) as driver:
            step = Step(1, "read_rest_async", {"how": how}, left_out='["big"]')
            others = Step(2, "double_async", {"n": 2}), Step(3, "double", {"n": 3})
            driver.pool.send(driver.up[0], frames.steps(step))
            await asked(driver, 1)
            driver.pool.send(driver.up[0], frames.steps(*others))
            driver.pool.send(driver.up[0], frames.state(1, {"how": how, "big": "x" * 3_000_000}))
            assert (await driver.result(1)).changes == {"set": {"found": "x" * 3_000_000}}
            assert (await driver.result(2)).outcome == (await driver.result(3)).outcome == DONE
            assert driver.readers[driver.up[0]].names == ([None] if how == "dict" else [["big"]])

    run(scenario())


@pytest.mark.parametrize("kind", POOLS)
def test_an_async_task_that_fetches_is_cancelled(kind: str) -> None:
    async def scenario() -> None:
        async with pool(kind) as driver:
            step = Step(1, "read_rest_async", {"how": "carrier"}, left_out="*")
            driver.pool.send(driver.up[0], frames.steps(step))
            await asked(driver, 1)
            driver.pool.send(driver.up[0], frames.cancel(1))
            result = await driver.result(1)
            assert (result.outcome, result.meta["code"]) == (ERROR, "cancelled")

    run(scenario())


def test_threads_whose_engine_is_gone_stop_waiting_on_their_loop() -> None:
    async def scenario() -> None:
        async with running_inline(app) as driver:
            first = driver.up[0]
            driver.pool.send(
                first, frames.steps(Step(1, "read_rest_async", {"how": "carrier"}, left_out="*"))
            )
            await asked(driver, 1)
            driver.pool.kill(first, "the test says so")
            await driver.until(lambda: driver.alive, "other threads")
            await driver.until(lambda: not _threads(f"penstock-inline-{first}-"), "the end of the threads")

    run(scenario())


def test_other_threads_and_the_loop_go_on_while_a_task_fetches() -> None:
    async def scenario() -> None:
        async with running_pool(threads=2) as driver:
            others = frames.steps(Step(2, "double", {"n": 1}), Step(3, "double_async", {"n": 2}))
            driver.pool.send(driver.up[0], reading(1) + others)
            await asked(driver, 1)
            assert (await driver.result(2)).outcome == (await driver.result(3)).outcome == DONE
            driver.pool.send(driver.up[0], frames.state(1, {"big": 1}))
            assert (await driver.result(1)).changes == {"set": {"found": 1}}

    run(scenario())


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("end", [frames.cancel(1), frames.state(1, None)])
def test_an_attempt_that_is_no_longer_wanted_stops_waiting(kind: str, end: bytes) -> None:
    async def scenario() -> None:
        async with pool(kind) as driver:
            driver.pool.send(driver.up[0], reading(1))
            await asked(driver, 1)
            driver.pool.send(driver.up[0], end)
            result = await driver.result(1)
            assert (result.outcome, result.meta["code"]) == (ERROR, "cancelled")

    run(scenario())


@pytest.mark.parametrize("kind", POOLS)
def test_a_drain_lets_a_fetching_task_finish(kind: str) -> None:
    async def scenario() -> None:
        async with pool(kind) as driver:
            driver.pool.send(driver.up[0], reading(1))
            await asked(driver, 1)
            stopping = asyncio.create_task(driver.pool.stop(10))
            await asyncio.sleep(0)
            driver.pool.send(driver.up[0], frames.state(1, {"big": 1}))
            await stopping
            assert driver.results[1].outcome == DONE
            assert driver.gone[driver.up[0]].exit_code == 0

    run(scenario())


def test_a_worker_that_is_killed_while_it_fetches_is_replaced() -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            first = driver.up[0]
            driver.pool.send(first, reading(1))
            await asked(driver, 1)
            driver.pool.kill(first, "the test says so")
            await driver.until(lambda: first in driver.gone and driver.alive, "another worker")
            assert 1 not in driver.results
            driver.pool.send(driver.alive[0], reading(2))
            await asked(driver, 2)
            driver.pool.send(driver.alive[0], frames.state(2, {"big": 2}))
            assert (await driver.result(2)).changes == {"set": {"found": 2}}

    run(scenario())


def test_threads_whose_engine_is_gone_stop_waiting() -> None:
    async def scenario() -> None:
        async with running_inline(app) as driver:
            first = driver.up[0]
            driver.pool.send(first, reading(1))
            await asked(driver, 1)
            driver.pool.kill(first, "the test says so")
            await driver.until(lambda: driver.alive, "other threads")
            await driver.until(lambda: not _threads(f"penstock-inline-{first}-"), "the end of the threads")

    run(scenario())


def _threads(prefix: str) -> list[str]:
    import threading

    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


@pytest.mark.parametrize(
    ("task", "words"), [("read_kept", "attempt has ended"), ("read_kept_async", "attempt has ended")]
)
def test_a_carrier_that_is_kept_fetches_no_more(task: str, words: str) -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            driver.pool.send(driver.up[0], frames.steps(Step(1, "keep_flow", left_out="*")))
            await driver.result(1)
            driver.pool.send(driver.up[0], frames.steps(Step(2, task)))
            assert words in (await driver.result(2)).meta["message"]
            assert driver.fetched == []

    run(scenario())
