"""Several calls in one task: which answer belongs to which, and what retries and parks keep."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import App, Engine, Flow, Retry
from penstock.errors import InterruptTimeout, Retryable, SubgraphFailed
from tests.support.waiting import eventually

app = App("calls")


@app.task
def many(flow: Flow) -> dict[str, Any]:
    """Make a call of every kind, and note how often the task ran."""
    flow["runs"] = flow.get("runs", int, 0) + 1
    first = flow.interrupt("first")
    flow.sleep(0.001)
    child = flow.subgraph("double", {"n": first})["n"]
    signal = flow.wait_signal("go")
    second = flow.interrupt("second", key="named")
    return {"got": [first, child, signal, second]}


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
def fail(flow: Flow) -> None:
    raise ValueError("as it should")


@app.task
def lapse_then_ask(flow: Flow) -> dict[str, Any]:
    """Ask, lapse once, ask again: the retry keeps the answers on both sides of what it forgets."""
    first = flow.interrupt("first")
    try:
        middle = flow.interrupt("middle", timeout=0.01 if flow.attempt == 0 else None)
        last = flow.interrupt("last")
    except InterruptTimeout:
        last = flow.interrupt("last")
        flow.retry(0)
        return {"before": [first, last]}
    return {"got": [first, middle, last]}


@app.task
def fail_below_once(flow: Flow) -> dict[str, Any]:
    """Let a child fail once; a declared retry runs the step again, and the good child not."""
    good = flow.subgraph("double", {"n": 4})["n"]
    try:
        flow.subgraph("fail" if flow.attempt == 0 else "double", {"n": 1}, key="second")
    except SubgraphFailed as failure:
        raise Retryable("below", str(failure)) from failure
    return {"got": good}


@app.task
async def ask_beside(flow: Flow) -> dict[str, Any]:
    async def ask(at: int) -> list[Any]:
        one = flow.interrupt([at, 0])
        await asyncio.sleep(0)
        return [one, flow.interrupt([at, 1])]

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(at)) for at in range(3)]
    return {"got": [task.result() for task in asked]}


@app.task
async def call_beside(flow: Flow) -> dict[str, Any]:
    async def call(n: int) -> int:
        return flow.subgraph("double", {"n": n})["n"]

    return {"got": list(await asyncio.gather(*(call(n) for n in range(20))))}


@app.task
def change_mind(flow: Flow) -> dict[str, Any]:
    asked = flow.get("asked", bool, False)
    flow["asked"] = True
    if asked:
        flow.sleep(0.001)
    else:
        flow.interrupt("well?")
    return {}


@app.task
def change_key(flow: Flow) -> dict[str, Any]:
    asked = flow.get("asked", bool, False)
    flow["asked"] = True
    return {"got": flow.wait_signal("b") if asked else flow.wait_signal("a")}


@app.task
def choose_first(flow: Flow) -> dict[str, Any]:
    """Ask to go elsewhere before the park; afterwards only when the answer says so."""
    known = flow.get("known", bool, False)
    flow["known"] = True
    if not known:
        flow.goto("aside")
        flow.delay(3600)
    return {"answer": flow.interrupt("well?")}


@app.task
def aside(flow: Flow) -> dict[str, Any]:
    return {"went": "aside"}


@app.task
def end(flow: Flow) -> dict[str, Any]:
    return {"went": "on"}


@app.task
def nap(flow: Flow) -> dict[str, Any]:
    flow.sleep(0.03)
    flow.sleep(0.03, key="second")
    return {"slept": (flow.now - flow.step_created_at).total_seconds()}


app.graph("many").chain(many)
app.graph("double").chain(double)
app.graph("fail").chain(fail)
app.graph("lapse").chain(lapse_then_ask)
app.graph("ask_beside").chain(ask_beside)
app.graph("call_beside").chain(call_beside)
app.graph("change").chain(change_mind)
app.graph("change_key").chain(change_key)
app.graph("nap").chain(nap)
app.graph("choose").chain(choose_first, end).goto(choose_first, aside)
app.graph("retried").node("below", fail_below_once, retry=Retry(3, 0.001)).chain("below")


def answer(engine: Engine, key: str, payload: Any, value: Any) -> None:
    """Wait for a question and answer it."""

    def asked() -> str:
        found = [one.interrupt_id for one in engine.snapshot(key).interrupts if one.payload == payload]
        return found[0] if found else ""

    engine.resume(key, value, interrupt_id=eventually(asked, what=f"the question {payload!r}"))


def test_a_task_makes_calls_of_every_kind_and_has_each_answer_in_its_place(engine: Engine) -> None:
    key = engine.create("many")
    answer(engine, key, "first", 3)
    engine.signal(key, "go", "now")
    answer(engine, key, "second", [])
    outcome = engine.wait(key, timeout=10)
    assert outcome.state["got"] == [3, 6, "now", []]
    assert outcome.state["runs"] > 1


def test_a_retry_forgets_what_lapsed_and_moves_no_answer(engine: Engine) -> None:
    key = engine.create("lapse")
    answer(engine, key, "first", 1)
    answer(engine, key, "last", 3)
    answer(engine, key, "middle", 2)
    outcome = engine.wait(key, timeout=10)
    assert outcome.status == "completed"
    assert (outcome.state["before"], outcome.state["got"]) == ([1, 3], [1, 2, 3])
    kinds = [event.kind for event in engine.history(key)[0].events]
    assert kinds.count("parked") == 4, "the last question was asked once"


def test_a_retry_keeps_the_child_that_completed_and_runs_the_failed_one_again(engine: Engine) -> None:
    outcome = engine.run("retried", timeout=10)
    assert (outcome.status, outcome.state["got"]) == ("completed", 8)
    (step,) = engine.history(outcome.key)
    assert [child[0].node for child in step.children] == ["double", "fail", "double"]


def test_calls_in_asyncio_tasks_are_open_at_once_and_find_their_answers(engine: Engine) -> None:
    key = engine.create("ask_beside")
    for round_ in range(2):
        eventually(lambda: len(engine.snapshot(key).interrupts) == 3, what="three questions")
        for question in reversed(engine.snapshot(key).interrupts):
            at, asked = question.payload
            assert asked == round_
            engine.resume(key, f"{at}.{asked}", interrupt_id=question.interrupt_id)
    assert engine.wait(key, timeout=10).state["got"] == [[f"{at}.0", f"{at}.1"] for at in range(3)]


def test_children_run_side_by_side_under_one_async_task(engine: Engine) -> None:
    outcome = engine.run("call_beside", timeout=20)
    assert outcome.state["got"] == [2 * n for n in range(20)]


@pytest.mark.parametrize("workflow", ["change", "change_key"])
def test_another_call_on_the_re_run_is_an_error_of_order(engine: Engine, workflow: str) -> None:
    key = engine.create(workflow)
    if workflow == "change":
        answer(engine, key, "well?", 1)
    else:
        engine.signal(key, "a")
    outcome = engine.wait(key, timeout=10)
    assert outcome.error is not None
    assert outcome.error.code == "call_order"


def test_a_park_drops_what_was_asked_before_it(engine: Engine) -> None:
    key = engine.create("choose")
    answer(engine, key, "well?", 1)
    assert engine.wait(key, timeout=10).state["went"] == "on"


def test_a_sleep_lasts_and_costs_no_worker(engine: Engine) -> None:
    outcome = engine.run("nap", timeout=10)
    assert outcome.state["slept"] >= 0.06
