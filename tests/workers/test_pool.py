"""A pool of real processes: tasks run in batches, whatever a task does to its worker."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.workers import frames
from tests.workers.driver import running_inline, running_pool
from tests.workers.frames import DONE, ERROR, PARKED, Step


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_sync_and_async_tasks_run_in_batches() -> None:
    async def scenario() -> None:
        async with running_pool(workers=2) as driver:
            assert driver.table["double"] is False
            assert driver.table["double_async"] is True
            for place, worker in enumerate(driver.alive):
                batch = [
                    Step(1000 * place + n, ("double", "double_async")[n % 2], {"n": n}) for n in range(1000)
                ]
                driver.pool.send(worker, frames.steps(*batch))
            await driver.until(lambda: len(driver.results) == 2000, "2000 results")
            for dispatch, result in driver.results.items():
                assert (result.outcome, result.changes) == (DONE, {"set": {"n": 2 * (dispatch % 1000)}})
            assert sum(reader.frames for reader in driver.readers.values()) < 600

    run(scenario())


def test_a_worker_is_a_process_of_its_own_kind() -> None:
    own_oom_score = int(Path("/proc/self/oom_score_adj").read_text())

    async def scenario() -> None:
        async with running_pool() as driver:
            driver.pool.send(driver.up[0], frames.steps(Step(1, "whoami")))
            found = (await driver.result(1)).changes["set"]
            assert found["pid"] == driver.pool.pids[driver.up[0]]
            assert found["ppid"] == driver.pool.zygote_pid
            assert found["session"] != os.getsid(0)
            assert found["oom"] > own_oom_score
            assert found["blas"] == os.environ.get("OPENBLAS_NUM_THREADS", "1")
            assert found["sockets"] <= 3  # its own, and what its event loop wakes itself with

    run(scenario())


@pytest.mark.parametrize("how", ["os._exit", "kill"])
def test_a_worker_that_dies_under_a_task_is_replaced_at_once(how: str) -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            first = driver.up[0]
            driver.pool.send(first, frames.steps(Step(1, "double", {"n": 1}), Step(2, "leave", {"how": how})))
            await driver.until(lambda: first in driver.gone, "the end of the worker")
            seen = time.monotonic()
            await driver.until(lambda: len(driver.up) == 2, "its replacement")
            assert time.monotonic() - seen < 0.2
            end = driver.gone[first]
            expected = (9, None) if how == "os._exit" else (None, signal.SIGKILL)
            assert (end.exit_code, end.signal) == expected
            assert end.reason
            driver.pool.send(driver.up[1], frames.steps(Step(3, "double", {"n": 1})))
            assert (await driver.result(3)).outcome == DONE
            assert 2 not in driver.results

    run(scenario())


def test_a_worker_killed_from_outside_is_reported_after_its_last_data(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            first, started = driver.up[0], tmp_path / "started"
            state = {"path": str(tmp_path / "never"), "started": str(started)}
            driver.pool.send(first, frames.steps(Step(1, "double", {"n": 1}), Step(2, "wait_for", state)))
            await driver.until(started.exists, "the task")
            await driver.result(1)
            os.kill(driver.pool.pids[first], signal.SIGKILL)
            await driver.until(lambda: len(driver.alive) == 1 and first in driver.gone, "the replacement")
            assert driver.events.index(("result", 1)) < driver.events.index(("gone", first))
            assert "SIGKILL" in driver.gone[first].reason

    run(scenario())


def test_a_worker_killed_by_the_pool_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            first, started = driver.up[0], tmp_path / "started"
            state = {"path": str(tmp_path / "never"), "started": str(started)}
            driver.pool.send(first, frames.steps(Step(1, "wait_for", state)))
            await driver.until(started.exists, "the task")
            driver.pool.kill(first, "its task overran")
            await driver.until(lambda: first in driver.gone, "the end of the worker")
            assert driver.gone[first].reason.endswith("its task overran")

    run(scenario())


def test_a_process_left_behind_does_not_hide_the_end_of_its_worker(tmp_path: Path) -> None:
    left_behind = tmp_path / "pid"

    async def scenario() -> None:
        async with running_pool() as driver:
            first = driver.up[0]
            driver.pool.send(first, frames.steps(Step(1, "leave_a_process", {"path": str(left_behind)})))
            await driver.until(lambda: first in driver.gone, "the end of the worker", deadline=5)
            assert driver.gone[first].exit_code == 1

    run(scenario())
    os.kill(int(left_behind.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("task", ["leave", "leave_async"])
@pytest.mark.parametrize(("how", "kind"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")])
def test_leaving_is_an_error_of_the_step(task: str, how: str, kind: str) -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            driver.pool.send(
                driver.up[0], frames.steps(Step(1, task, {"how": how}), Step(2, "double", {"n": 1}))
            )
            failed, fine = await driver.result(1), await driver.result(2)
            assert (failed.outcome, failed.meta["type"], failed.meta["code"]) == (ERROR, kind, "error")
            assert fine.outcome == DONE
            assert not driver.gone

    run(scenario())


def test_an_exception_travels_with_its_class_and_the_frames_of_the_task() -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            kinds = ["permanent", "limited", "plain"]
            driver.pool.send(
                driver.up[0], frames.steps(*(Step(n, "fail", {"kind": kind}) for n, kind in enumerate(kinds)))
            )
            permanent, limited, plain = [(await driver.result(n)).meta for n in range(3)]
            assert (permanent["code"], permanent["class"], permanent["data"]) == (
                "no_card",
                "permanent",
                {"card": 7},
            )
            assert (limited["class"], limited["retry_after_ms"]) == ("rate_limited", 1500)
            assert (plain["code"], plain["type"], plain["class"]) == ("error", "ValueError", "error")
            assert plain["message"] == "\ud800 is no text"
            assert "in fail" in plain["traceback"]
            assert "attempts.py" not in plain["traceback"]

    run(scenario())


def test_cancelling_reaches_running_and_queued_tasks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            started, started_async = tmp_path / "started", tmp_path / "started_async"
            driver.pool.send(
                driver.up[0],
                frames.steps(
                    Step(1, "wait_forever", {"started": str(started_async)}),
                    Step(2, "wait_for_cancel", {"started": str(started)}),
                    Step(3, "double", {"n": 1}),
                ),
            )
            await driver.until(lambda: started.exists() and started_async.exists(), "the tasks")
            driver.pool.send(driver.up[0], frames.cancel(1) + frames.cancel(3) + frames.cancel(2))
            asynchronous, polite, queued = [await driver.result(n) for n in (1, 2, 3)]
            assert (asynchronous.outcome, asynchronous.meta["code"]) == (ERROR, "cancelled")
            assert (polite.outcome, polite.changes) == (DONE, {"set": {"cancelled": True}})
            assert (queued.outcome, queued.meta["code"]) == (ERROR, "cancelled")

    run(scenario())


def test_calls_awaited_together_are_all_recorded_and_all_answered() -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            driver.pool.send(driver.up[0], frames.steps(Step(1, "ask_together")))
            parked = await driver.result(1)
            assert (parked.outcome, parked.changes) == (PARKED, {"set": {"before": 1}})
            calls = parked.meta["calls"]
            assert [call["input"]["name"] for call in calls] == ["a", "b"]
            answered = [
                {"kind": "subgraph", "key": call["key"], "target": "child", "answer": call["input"]}
                for call in calls
            ]
            driver.pool.send(driver.up[0], frames.steps(Step(2, "ask_together", calls=answered)))
            done = await driver.result(2)
            assert done.outcome == DONE
            assert done.changes["set"]["answers"] == [{"name": "a"}, {"name": "b"}]

    run(scenario())


def test_frames_of_ten_megabytes_pass_both_ways() -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            text = "x" * (10 << 20)
            driver.pool.send(
                driver.up[0], frames.steps(Step(1, "echo", {"text": text}), Step(2, "double", {"n": 2}))
            )
            assert (await driver.result(1)).changes["set"]["text"] == text
            assert (await driver.result(2)).outcome == DONE

    run(scenario())


def test_integers_of_any_length_pass_both_ways() -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            digits = "9" * 6000
            driver.pool.send(driver.up[0], frames.steps(Step(1, "echo", f'{{"n":{digits}}}')))
            assert (await driver.result(1)).changes_text == f'{{"set":{{"n":{digits}}}}}'

    run(scenario())


def test_an_async_task_may_run_a_program_and_print(capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            driver.pool.send(driver.up[0], frames.steps(Step(1, "run_a_program"), Step(2, "speak")))
            assert (await driver.result(1)).changes == {"set": {"out": "hello\n"}}
            await driver.result(2)

    run(scenario())
    assert "a task speaks" in capfd.readouterr().out


def test_results_do_not_wait_for_a_long_task_behind_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            gate, started = tmp_path / "gate", tmp_path / "started"
            state = {"path": str(gate), "started": str(started)}
            driver.pool.send(
                driver.up[0], frames.steps(Step(1, "double", {"n": 1}), Step(2, "wait_for", state))
            )
            await driver.result(1)
            assert 2 not in driver.results
            gate.touch()
            await driver.result(2)

    run(scenario())


def test_stopping_drains(tmp_path: Path) -> None:
    async def scenario() -> None:
        gate, started = tmp_path / "gate", tmp_path / "started"
        async with running_pool(threads=2) as driver:
            state = {"path": str(gate), "started": str(started)}
            driver.pool.send(
                driver.up[0], frames.steps(Step(1, "wait_for", state), Step(2, "double", {"n": 1}))
            )
            await driver.until(started.exists, "the task")
            stopping = asyncio.create_task(driver.pool.stop(10))
            await driver.result(2)
            gate.touch()
            await stopping
            assert driver.results[1].outcome == DONE
            assert driver.gone[driver.up[0]].exit_code == 0
            assert len(driver.up) == 1

    run(scenario())


def test_an_unknown_task_is_an_error_of_its_step() -> None:
    async def scenario() -> None:
        async with running_pool() as driver:
            driver.pool.send(driver.up[0], frames.steps(Step(1, "nobody")))
            assert "nobody" in (await driver.result(1)).meta["message"]

    run(scenario())


def test_threads_of_the_host_do_the_same() -> None:
    from tests.workers.apps.sample import app

    async def scenario() -> None:
        async with running_inline(app, threads=2) as driver:
            worker = driver.up[0]
            batch = [Step(n, ("double", "double_async")[n % 2], {"n": n}) for n in range(200)]
            driver.pool.send(worker, frames.steps(*batch))
            await driver.until(lambda: len(driver.results) == 200, "200 results")
            driver.pool.send(worker, frames.steps(Step(500, "leave", {"how": "exit"})))
            assert (await driver.result(500)).meta["type"] == "SystemExit"

    run(scenario())


def test_a_fold_is_read_as_it_will_be() -> None:
    from tests.workers.apps.sample import app

    async def scenario() -> None:
        async with running_inline(app) as driver:
            driver.pool.send(
                driver.up[0],
                frames.graph(3, {"log": "append"})
                + frames.steps(Step(1, "echo", {"log": [1]}, changes='{"add":{"log":[2]}}', graph_no=3)),
            )
            assert (await driver.result(1)).changes == {"set": {"log": [1, 2]}}

    run(scenario())
