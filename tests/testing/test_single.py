"""One task alone: what it wrote, asked for and came to."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock import App, Flow, current_flow
from penstock.errors import InterruptTimeout, Invalid, Permanent, SubgraphFailed
from penstock.testing import run_task

app = App("alone")


@app.task
def charge(flow: Flow, amount: int) -> dict[str, Any]:
    flow["log"] = [f"asked {amount}"]
    if amount > 100:
        flow["approved_by"] = flow.interrupt({"amount": amount}, timeout=60)["by"]
    flow.sleep(timedelta(days=2))
    return {"charged": amount, "at": flow.now.timestamp()}


@app.task
def branch(flow: Flow) -> None:
    del flow["old"]
    flow.overwrite("n", 7)
    flow.delay(3)
    flow.goto("elsewhere")


@app.task
async def gather(flow: Flow) -> dict[str, Any]:
    async def child(number: int) -> Any:
        await asyncio.sleep(0)
        return flow.subgraph("square", {"n": number}, key=f"k{number}")["n"]

    return {"squares": await asyncio.gather(*(child(number) for number in range(3)))}


@app.task
def careful(flow: Flow) -> dict[str, Any]:
    try:
        return {"got": flow.wait_signal("go", timeout=5)}
    except InterruptTimeout:
        pass
    try:
        flow.subgraph("fragile")
    except SubgraphFailed as error:
        return {"failed": error.code, "data": error.data}
    return {}


def test_a_task_runs_from_the_top_after_each_answer_and_time_passes_for_its_sleeps() -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    done = run_task(
        charge, {"amount": 500, "log": ["old"]}, answers=[{"by": "ada"}], reducers={"log": "append"}, now=noon
    )
    assert (done.outcome, done.runs) == ("done", 3)
    assert done.changes == {
        "log": ["asked 500"], "approved_by": "ada", "charged": 500, "at": (noon + timedelta(days=2)).timestamp(),
    }  # fmt: skip
    assert done.state["log"] == ["old", "asked 500"]
    assert [call["kind"] for call in done.calls] == ["interrupt", "sleep"]
    assert done.calls[0]["timeout_ms"] == 60_000


def test_without_an_answer_it_is_parked_with_what_it_wrote_before() -> None:
    parked = run_task(charge, {"amount": 500})
    assert parked.outcome == "parked"
    assert parked.changes == {"log": ["asked 500"]}
    assert [call["payload"] for call in parked.waits_for] == [{"amount": 500}]


def test_signals_deletions_and_overwrites_are_told() -> None:
    done = run_task(branch, {"old": 1, "n": 2}, reducers={"n": "add"})
    assert (done.goto, done.delay) == ("elsewhere", timedelta(seconds=3))
    assert done.changes == {"old": None, "n": 7}
    assert done.state == {"n": 7}


def test_parallel_calls_of_an_async_task_are_answered_by_key() -> None:
    answers = {f"k{number}": {"n": number * number} for number in range(3)}
    done = run_task(gather, answers=answers)
    assert done.changes == {"squares": [0, 1, 4]}
    assert len(done.calls) == 3


def test_failures_of_calls_are_raised_in_the_task() -> None:
    failure = SubgraphFailed("broke", "it did", data=[1])
    done = run_task(careful, answers=[InterruptTimeout("late"), failure])
    assert done.changes == {"failed": "broke", "data": [1]}
    assert run_task(careful, answers={"go": 5}).changes == {"got": 5}


def test_an_exception_is_an_error_with_its_code_and_voids_what_that_run_wrote() -> None:
    @app.task
    def fails(flow: Flow) -> None:
        flow["kept"] = 1
        flow.sleep(1)
        flow["void"] = 1
        raise Permanent("nope", "no way", data={"why": 1})

    failed = run_task(fails)
    assert failed.outcome == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message, failed.error.data) == ("nope", "no way", {"why": 1})
    assert failed.changes == {"kept": 1}


def test_attempt_baggage_node_and_deadline_are_what_was_given() -> None:
    @app.task
    def look(flow: Flow) -> dict[str, Any]:
        assert current_flow() is flow
        assert flow.deadline is not None
        return {
            "seen": [flow.attempt, flow.node, flow.baggage, (flow.deadline - flow.now).total_seconds()],
            "armed": flow.retry(60, multiplier=2),
        }

    done = run_task(
        look,
        attempt=2,
        node="here",
        baggage={"tenant": "a"},
        now=datetime(2030, 1, 1, tzinfo=UTC),
        time_budget=9,
    )
    assert done.changes["seen"] == [2, "here", {"tenant": "a"}, 9.0]
    assert (done.outcome, done.retry_after) == ("retry", timedelta(seconds=240))


def test_answers_that_nothing_asked_for_are_refused() -> None:
    with pytest.raises(Invalid, match=r"nothing asked for the answers \['extra'\]; it called sleep"):
        run_task(charge, {"amount": 5}, answers=["extra"])
    with pytest.raises(Invalid, match="give a list"):
        run_task(charge, {"amount": 5}, answers="yes")
    with pytest.raises(Invalid, match="give a value, InterruptTimeout or SubgraphFailed"):
        run_task(charge, {"amount": 500}, answers=[ValueError("x")])
