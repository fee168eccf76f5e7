"""Who wins when somebody cancels: the flow's own end, another one who cancels, or he."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Client, Engine, Flow
from penstock.errors import Conflict, Invalid
from tests.flows import client_app
from tests.support.databases import Databases
from tests.support.host import Host
from tests.support.waiting import eventually

app = App("cancel")


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt("well?")}


@app.task
def call(flow: Flow, target: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"child": flow.subgraph(target, given)}


@app.task
def ask_the_odd(flow: Flow, item: int) -> dict[str, Any]:
    if item % 2:
        flow.interrupt(item)
    return {"even": [item]}


@app.task
def nothing(flow: Flow) -> dict[str, bool]:
    return {"began": True}


app.graph("ask").chain(ask)
app.graph("call").chain(call)
app.graph("each").chain(nothing).for_each(nothing, ask_the_odd, over="items").node("join", nothing).edge(
    ask_the_odd, "join"
).fan_in("join").reducer("even", "append")


@pytest.fixture(params=["sqlite", "postgresql"])
def client(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases, start_host: Callable[..., Host]
) -> Iterator[Client]:
    """A client beside an engine of another process."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'flows.db'}"
    else:
        url = databases.new_postgresql().url
    host = start_host(["-m", "tests.flows.client_app", url])
    host.wait_for_output("engine runs")
    with Client(client_app.app, url) as client:
        yield client


def try_to_cancel(client: Client, key: str, reason: str) -> str | None:
    """The refusal, None when it was obeyed."""
    try:
        client.cancel(key, reason)
    except Conflict as refusal:
        return str(refusal)
    return None


def test_one_of_cancel_and_completion_wins_and_the_loser_hears_who(client: Client) -> None:
    ends: Counter[str] = Counter()
    chance = random.Random(7)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(25):
            keys = client.create_many("double", [{"n": n} for n in range(12)])
            # Some of them have ended by the time that they are cancelled, some have not.
            client.wait(chance.choice(keys), timeout=20)
            keys += client.create_many("double", [{"n": n} for n in range(12, 16)])
            refusals = list(pool.map(lambda key: try_to_cancel(client, key, "enough"), keys))
            for n, (key, refusal) in enumerate(zip(keys, refusals, strict=True)):
                outcome = client.wait(key, timeout=20)
                ends[outcome.status] += 1
                if refusal is None:
                    assert (outcome.status, outcome.cancel_reason) == ("cancelled", "enough")
                    assert outcome.state == {"n": n}, "a late result was taken"
                else:
                    assert (outcome.status, outcome.state) == ("completed", {"n": 2 * n})
                    assert "is completed" in refusal
    assert sum(ends.values()) == 400
    assert len(ends) == 2, ends


def test_one_of_many_who_cancel_wins_and_the_others_hear_his_reason(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            key = client.create("ask", {"n": 1})
            reasons = [f"reason {n}" for n in range(6)]
            refusals = list(pool.map(lambda reason, key=key: try_to_cancel(client, key, reason), reasons))
            outcome = client.wait(key, timeout=20)
            assert outcome.status == "cancelled"
            (winner,) = [reason for reason, refusal in zip(reasons, refusals, strict=True) if refusal is None]
            assert outcome.cancel_reason == winner
            for refusal in refusals:
                assert refusal is None or f'is cancelled ("{winner}")' in refusal


def test_a_cancelled_flow_s_output_is_the_fold_of_what_completed(engine: Engine) -> None:
    key = engine.create("each", {"items": list(range(10)), "kept": 1})
    eventually(
        lambda: Counter(step.status for step in engine.history(key)) == {"completed": 6, "parked": 5},
        what="the even ones",
    )
    engine.cancel(key, "far enough")
    outcome = engine.wait(key, timeout=10)
    while outcome.status != "cancelled":
        outcome = engine.wait(key, timeout=10)
    assert outcome.state["even"] == [0, 2, 4, 6, 8]
    assert (outcome.state["kept"], outcome.state["began"]) == (1, True)
    assert "item" not in outcome.state


@pytest.mark.parametrize("reason", ["", "ü € 😀", "x" * 4_096, "two\nlines", '"quoted"'])
def test_the_reason_is_kept_as_it_was_given(engine: Engine, reason: str) -> None:
    key = engine.create("ask")
    engine.cancel(key, reason)
    outcome = engine.wait(key, timeout=10)
    assert outcome.cancel_reason == reason
    assert engine.snapshot(key) == outcome
    assert [flow.cancel_reason for flow in engine.list(limit=1_000) if flow.key == key] == [reason]


@pytest.mark.parametrize("reason", ["a\0b", "\ud800", "x" * 4_097, None, 3])
def test_a_reason_that_cannot_be_kept_is_refused(engine: Engine, reason: Any) -> None:
    key = engine.create("ask")
    for operation in (engine.cancel, engine.pause):
        with pytest.raises(Invalid, match="reason"):
            operation(key, reason)
    engine.cancel(key)


def test_a_tree_that_nobody_owns_is_cancelled_to_its_leaves(database_url: str) -> None:
    with Engine(app, database_url) as engine:
        leaf = {"target": "ask", "given": {}}
        key = engine.create("call", {"target": "call", "given": {"target": "call", "given": leaf}})
        eventually(lambda: engine.snapshot(key).interrupts, what="the question of the leaf")
        tree = [flow.key for flow in engine.list(children=True)]
        assert len(tree) == 4
    with Engine(app, database_url) as engine:
        engine.cancel(key, "all of it")
        for flow in tree:
            assert engine.snapshot(flow).cancel_reason == "all of it"
        assert engine.snapshot(key).interrupts == engine.interrupts().items == ()
        eventually(lambda: engine.replicas()[0].owned == 0, what="the end of all")


def test_a_paused_tree_is_cancelled(engine: Engine) -> None:
    key = engine.create("call", {"target": "ask", "given": {}})
    eventually(lambda: engine.snapshot(key).interrupts, what="the question")
    child = engine.snapshot(key).interrupts[0].flow_key
    engine.pause(key)
    eventually(lambda: engine.snapshot(child).status == "paused", what="the pause of the child")
    engine.cancel(key, "over")
    assert engine.wait(key, timeout=10).cancel_reason == "over"
    assert engine.snapshot(child).status == "cancelled"


def test_blanks_around_a_reason_are_not_kept(engine: Engine) -> None:
    key = engine.create("call", {"target": "ask", "given": {}}, hold=True)
    engine.cancel(key, "  out of stock\n")
    assert engine.wait(key, timeout=20).cancel_reason == "out of stock"
