"""Waiting for a node, and what a wait says that does not end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from penstock import App, AsyncEngine, Client, Engine, Flow
from penstock.errors import Invalid, NotFound, WaitTimeout

app = App("waiting")


@app.task
def wait_for(gate: str) -> dict[str, bool]:
    while not Path(gate).exists():
        time.sleep(0.001)
    return {"opened": True}


@app.task
def count(flow: Flow, n: int) -> dict[str, int]:
    return {"n": n + 1}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt("well?")}


@app.task
def nothing(flow: Flow) -> None: ...


app.graph("two").node("before", nothing).node("gate", wait_for).node("after", nothing).node(
    "far", nothing
).chain("before", "gate", "after").switch("after", {"never": "far"}, default="end").node("end", nothing)
app.graph("fan").node("source", nothing).node("left", nothing).node("right", wait_for).node(
    "join", nothing
).fan_out("source", "left", "right").edge("left", "join").edge("right", "join").fan_in("join")
app.graph("ask").chain(ask, nothing)


def test_wait_returns_when_the_node_has_been_reached(engine: Engine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    key = engine.create("two", {"gate": str(gate)})
    outcome = engine.wait(key, until="gate", timeout=10)
    assert (outcome.key, outcome.status) == (key, "running")
    assert engine.wait(key, until="before", timeout=0) == engine.wait(key, until="gate", timeout=0)
    with pytest.raises(WaitTimeout) as late:
        engine.wait(key, until="after", timeout=0.05)
    assert late.value.flow_key == key
    assert "'after'" in str(late.value)
    gate.touch()
    assert engine.wait(key, until="after", timeout=10).state["opened"] is True
    assert engine.wait(key, until="far", timeout=10).status == "completed", "it stops without coming there"
    assert engine.wait(key, until="gate", timeout=0).status == "completed"


def test_the_branches_of_a_fan_out_and_the_join_are_reached(engine: Engine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    key = engine.create("fan", {"gate": str(gate)})
    for node in ("left", "right"):
        assert engine.wait(key, until=node, timeout=10).status == "running"
    with pytest.raises(WaitTimeout):
        engine.wait(key, until="join", timeout=0.05)
    gate.touch()
    assert engine.wait(key, until="join", timeout=10).key == key


def test_a_question_ends_the_wait_for_a_node_too(engine: Engine) -> None:
    key = engine.create("ask")
    assert engine.wait(key, until="nothing", timeout=10).status == "interrupted"
    engine.cancel(key)


def test_the_entry_of_a_held_flow_is_reached_and_its_other_nodes_are_not(engine: Engine) -> None:
    key = engine.create("ask", hold=True)
    assert engine.wait(key, until="ask", timeout=10).status == "paused"
    with pytest.raises(WaitTimeout):
        engine.wait(key, until="nothing", timeout=0.02)
    engine.cancel(key)


def test_a_node_that_the_graph_lacks_is_refused(engine: Engine) -> None:
    key = engine.create("ask", hold=True)
    with pytest.raises(Invalid, match=r"'nothin'.*did you mean 'nothing'"):
        engine.wait(key, until="nothin")
    with pytest.raises(Invalid, match=r"no node 'zzz'.*'ask'"):
        engine.wait(key, until="zzz")
    with pytest.raises(Invalid, match="no node 3"):
        engine.wait(key, until=3)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        engine.wait(key[:-4] + "aaaa", until="ask")
    engine.cancel(key)


def time_out(caller: Engine | Client, gate: Path) -> None:
    with pytest.raises(WaitTimeout) as late:
        caller.run("two", {"gate": str(gate)}, timeout=0.05)
    key = late.value.flow_key
    assert key is not None
    assert caller.wait(key, until="gate", timeout=10).status == "running"
    gate.touch()
    assert caller.wait(key, timeout=10).status == "completed"


def test_run_that_times_out_names_its_flow_which_goes_on(engine: Engine, tmp_path: Path) -> None:
    time_out(engine, tmp_path / "gate")


def test_a_client_s_run_that_times_out_names_its_flow(distant: Client, tmp_path: Path) -> None:
    time_out(distant, tmp_path / "gate")


def test_a_client_waits_for_a_node(distant: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    key = distant.create("two", {"gate": str(gate)})
    assert distant.wait(key, until="gate", timeout=10).status == "running"
    gate.touch()
    assert distant.wait(key, until="end", timeout=10).state["opened"] is True


async def debug_asynchronously(database_url: str, gate: Path) -> None:
    async with AsyncEngine(app, database_url) as engine:
        key = await engine.create("two", {"gate": str(gate)}, hold=True)
        await engine.break_before(key, "gate")
        await engine.unpause(key)
        assert (await engine.wait(key, timeout=10)).interrupts[0].kind == "breakpoint"
        await engine.pause(key)
        await engine.resume_break(key, {"more": 1})
        await engine.unpause(key)
        assert (await engine.wait(key, until="gate", timeout=10)).key == key
        gate.touch()
        assert (await engine.wait(key, timeout=10)).state["more"] == 1


def test_an_async_engine_has_the_same_operations(database_url: str, tmp_path: Path) -> None:
    asyncio.run(debug_asynchronously(database_url, tmp_path / "gate"))
