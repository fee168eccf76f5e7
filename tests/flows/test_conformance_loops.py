"""Loops: laps that end, laps that never would, and the steps that they make."""

from __future__ import annotations

from typing import Any

from penstock import END, App, Engine, Flow
from tests.support.acting import acting, done, go, visits
from tests.support.waiting import eventually

app = App("conformance loops")

acting(app, "goto", "a b").goto("b", "a").chain("a", "b").reducer("n", "add")
acting(app, "switch", "a b c").edge("a", "b").switch("b", {"n < 5": "a"}, default="c").reducer("n", "add")
acting(app, "when", "a b").edge("a", "b").edge("b", "a", when="n < 5").reducer("n", "add")
acting(app, "self", "a").goto("a", "a").edge("a", END).reducer("n", "add")
acting(app, "error", "a h").on_error("a", "h").edge("h", "a").edge("a", END)
acting(app, "inside", "s b c j").for_each("s", "b", over="items").edge("b", "c").goto("c", "b").edge(
    "c", "j"
).fan_in("j").reducer("log", "append")
acting(app, "inner cohort", "s i x y k j").for_each("s", "i", over="items").fan_out("i", "x", "y").edge(
    "x", "k"
).edge("y", "k").fan_in("k").goto("k", "i").edge("k", "j").fan_in("j").reducer("log", "append")


@app.task
def spin(flow: Flow) -> dict[str, Any]:
    flow.goto("spin")
    return {"n": 1}


app.graph("many").node("spin").goto("spin", "spin").edge("spin", END).reducer("n", "add")


def test_a_goto_leads_back_until_the_task_asks_no_more(engine: Engine) -> None:
    assert done(engine, "goto", {"a": [["set", "n", 1]], "b": [["goto_below", "a", "n", 5]]})["n"] == 5


def test_a_switch_leads_back(engine: Engine) -> None:
    outcome = go(engine, "switch", {"a": [["set", "n", 1]]})
    assert visits(engine, outcome) == ["a", "b"] * 5 + ["c"]


def test_a_when_leads_back_and_ends_the_flow_when_it_is_false(engine: Engine) -> None:
    assert done(engine, "when", {"a": [["set", "n", 1]]})["n"] == 5


def test_each_lap_is_a_step_of_its_own(engine: Engine) -> None:
    outcome = go(engine, "self", {"a": [["set", "n", 1], ["goto_below", "a", "n", 3]]})
    steps = engine.history(outcome.key)
    assert [(step.number, step.attempt, step.predecessors) for step in steps] == [
        (1, 0, ()),
        (2, 0, (1,)),
        (3, 0, (2,)),
    ]
    assert len({step.key for step in steps}) == 3


def test_a_handler_may_lead_back_to_the_node_that_failed(engine: Engine) -> None:
    outcome = go(engine, "error", {"a": [["fail_below", "n", 3]], "h": [["increase", "n"]]})
    assert (outcome.status, visits(engine, outcome)) == ("completed", ["a", "h"] * 3 + ["a"])


def test_branches_loop_each_for_itself_and_every_lap_contributes(engine: Engine) -> None:
    items = [{"do": [["increase", "lap"], ["goto_below", "b", "lap", at]]} for at in (2, 1, 3)]
    state = done(engine, "inside", {"b": [["contribute", "item_index", "log"]], "c": "item"}, items=items)
    assert state["log"] == [0, 0, 1, 2, 2, 2]


def test_a_branch_may_loop_over_an_inner_cohort(engine: Engine) -> None:
    orders: dict[str, Any] = {
        "x": [["set", "log", "x"]],
        "y": [["set", "log", "y"]],
        "k": [["increase", "lap"], ["goto_below", "i", "lap", 2]],
    }
    assert done(engine, "inner cohort", orders, items=[1, 2])["log"] == ["x", "y", "x", "y"] * 2


def test_a_long_loop_ends_when_it_is_cancelled(engine: Engine) -> None:
    key = engine.create("many", {"n": 0})
    eventually(lambda: engine.snapshot(key).state["n"] > 5, what="a few laps")
    engine.cancel(key, "enough laps")
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.cancel_reason) == ("cancelled", "enough laps")
