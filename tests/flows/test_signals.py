"""Signals: sent to a flow by name, kept until somebody waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import App, AsyncEngine, Client, Engine, Flow
from penstock.errors import Conflict, InterruptTimeout, Invalid, NotFound
from tests.support.waiting import eventually

app = App("signals")


@app.task
def wait_once(flow: Flow, name: str = "go") -> dict[str, Any]:
    return {"got": flow.wait_signal(name)}


@app.task
def wait_thrice(flow: Flow) -> dict[str, Any]:
    return {"got": [flow.wait_signal("go") for _ in range(3)]}


@app.task
def wait_two_names(flow: Flow) -> dict[str, Any]:
    paid = flow.wait_signal("paid")
    return {"got": [paid, flow.wait_signal("packed"), flow.interrupt("send it?")]}


@app.task
def wait_each(flow: Flow, item: int) -> dict[str, Any]:
    return {"got": [[item, flow.wait_signal("go")]]}


@app.task
def wait_in_time(flow: Flow, limit: float) -> dict[str, Any]:
    try:
        return {"got": flow.wait_signal("go", timeout=limit)}
    except InterruptTimeout as late:
        return {"late": late.code}


@app.task
def wait_impatiently(flow: Flow) -> None:
    flow.wait_signal("go", timeout=0.01)


@app.task
async def wait_beside(flow: Flow) -> dict[str, Any]:
    async def one(name: str) -> Any:
        return flow.wait_signal(name)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(name)) for name in ("a", "b", "a")]
    return {"got": [task.result() for task in tasks]}


@app.task
def run_below(flow: Flow) -> dict[str, Any]:
    return {"child": flow.subgraph("once")}


@app.task
def nothing(flow: Flow) -> None: ...


app.graph("once").chain(wait_once)
app.graph("thrice").chain(wait_thrice)
app.graph("two").chain(wait_two_names)
app.graph("in_time").chain(wait_in_time)
app.graph("impatient").chain(wait_impatiently)
app.graph("beside").chain(wait_beside)
app.graph("below").chain(run_below)
app.graph("each").chain(nothing).for_each(nothing, wait_each, over="items").node("join", nothing).edge(
    wait_each, "join"
).fan_in("join").reducer("got", "append")


def parked(engine: Engine, key: str, number: int = 1) -> None:
    """Wait until so many steps of a flow are parked."""
    eventually(
        lambda: sum(step.status == "parked" for step in engine.history(key)) == number,
        what=f"{number} parked steps",
    )


def test_a_signal_answers_the_call_that_waits_for_it(engine: Engine) -> None:
    key = engine.create("once")
    parked(engine, key)
    assert engine.poll(key).status == "running", "it waits for no person"
    engine.signal(key, "other", "kept for nobody")
    engine.signal(key, "go", {"at": 5})
    assert engine.wait(key, timeout=10).state == {"got": {"at": 5}}


@pytest.mark.parametrize("payload", [None, False, 0, "", [], 10**30, "\0", {"a": [None]}])
def test_any_json_is_a_payload(engine: Engine, payload: Any) -> None:
    key = engine.create("once")
    engine.signal(key, "go", payload)
    assert engine.wait(key, timeout=10).state.get("got") == payload


def test_signals_that_come_before_anybody_waits_are_kept_in_their_order(engine: Engine) -> None:
    key = engine.create("two")
    parked(engine, key)
    for at in range(3):
        engine.signal(key, "packed", at)
    engine.signal(key, "paid", "yes")
    outcome = engine.wait(key, timeout=10)
    assert outcome.status == "interrupted"
    engine.resume(key, "send")
    assert engine.wait(key, timeout=10).state["got"] == ["yes", 0, "send"]


def test_a_task_takes_signals_of_one_name_first_in_first_out(engine: Engine) -> None:
    key = engine.create("thrice")
    for at in range(3):
        engine.signal(key, "go", at)
    assert engine.wait(key, timeout=10).state["got"] == [0, 1, 2]


def test_the_branch_that_has_waited_longest_is_answered_first(engine: Engine) -> None:
    key = engine.create("each", {"items": [0]})
    parked(engine, key)
    engine.signal(key, "go", "only")
    assert engine.wait(key, timeout=10).state["got"] == [[0, "only"]]
    key = engine.create("each", {"items": list(range(4))})
    parked(engine, key, 4)
    order = [
        step.number
        for step in sorted(
            (step for step in engine.history(key) if step.status == "parked"),
            key=lambda step: step.events[0].ord,
        )
    ]
    first = {step.number: step.ordinal for step in engine.history(key)}
    for at in range(4):
        engine.signal(key, "go", at)
    got = dict(engine.wait(key, timeout=10).state["got"])
    assert [got[first[number]] for number in order] == [0, 1, 2, 3]


def test_a_wait_for_a_signal_lapses(engine: Engine) -> None:
    key = engine.create("in_time", {"limit": 0.05})
    assert engine.wait(key, timeout=10).state["late"] == "interrupt_timeout"
    impatient = engine.wait(engine.create("impatient"), timeout=10)
    assert impatient.error is not None
    assert impatient.error.code == "interrupt_timeout"


def test_a_signal_in_time_is_a_signal(engine: Engine) -> None:
    key = engine.create("in_time", {"limit": 60})
    engine.signal(key, "go", "here")
    assert engine.wait(key, timeout=10).state["got"] == "here"


def test_calls_side_by_side_each_get_their_signal(engine: Engine) -> None:
    key = engine.create("beside")
    for name, payload in (("b", 1), ("a", 2), ("a", 3)):
        engine.signal(key, name, payload)
    assert engine.wait(key, timeout=10).state["got"] == [2, 1, 3]


def test_a_flow_that_has_finished_takes_no_signal(engine: Engine) -> None:
    key = engine.create("once")
    engine.signal(key, "go")
    engine.wait(key, timeout=10)
    with pytest.raises(Conflict, match="completed"):
        engine.signal(key, "go")


def test_a_child_takes_no_signal(engine: Engine) -> None:
    key = engine.create("below")

    def child() -> str:
        found = [flow.key for flow in engine.list(children=True, limit=1_000) if flow.parent_key == key]
        return found[0] if found else ""

    below = eventually(child, what="the child")
    with pytest.raises(Invalid, match=key):
        engine.signal(below, "go")
    engine.cancel(key)


@pytest.mark.parametrize("name", ["", None, 5, "x" * 10_000])
def test_a_bad_name_is_refused(engine: Engine, name: Any) -> None:
    with pytest.raises(Invalid, match="name"):
        engine.signal(engine.create("once"), name)


def test_a_payload_that_is_no_json_and_a_key_of_nothing_are_refused(engine: Engine) -> None:
    key = engine.create("once")
    with pytest.raises(Invalid, match="payload"):
        engine.signal(key, "go", float("nan"))
    with pytest.raises(NotFound):
        engine.signal(key[:-4] + "aaaa", "go")


def test_kept_signals_outlive_the_engine(database_url: str) -> None:
    with Engine(app, database_url) as engine:
        key = engine.create("two")
        for at in range(3):
            engine.signal(key, "packed", at)
    with Engine(app, database_url) as engine, Client(None, database_url) as client:
        client.signal(key, "paid", "late")
        assert client.wait(key, timeout=10).status == "interrupted"
        client.resume(key)
        assert client.wait(key, timeout=10).state["got"] == ["late", 0, None]


def test_an_async_engine_signals_too(database_url: str) -> None:
    async def use() -> None:
        async with AsyncEngine(app, database_url) as engine:
            key = await engine.create("once")
            await engine.signal(key, "go", 1)
            assert (await engine.wait(key, timeout=10)).state["got"] == 1
            assert (await engine.interrupts(limit=1)).items == ()

    asyncio.run(use())
