"""Every kind of edge, and the errors that routing makes."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import END, App, Engine, Flow, Graph
from penstock.errors import Permanent

app = App("edges")


@app.task
def visit(flow: Flow) -> dict[str, Any]:
    return {"trail": [flow.node]}


@app.task
def lap(flow: Flow, laps: int, at: int = 0) -> dict[str, Any]:
    if at + 1 < laps:
        flow.goto("body")
    return {"at": at + 1, "trail": ["lap"]}


@app.task
def lost(flow: Flow) -> None:
    flow.goto("nowhere")


@app.task
def fail(flow: Flow) -> None:
    flow["unsafe"] = True
    raise Permanent("no_stock", "nothing left", data={"left": 0})


@app.task
def handle(on_error: dict[str, Any]) -> dict[str, Any]:
    return {"handled": on_error, "trail": ["handle"]}


@app.task
def both(flow: Flow) -> None:
    flow.goto("b")
    flow.retry(0)


def visiting(name: str, *nodes: str) -> Graph:
    graph = app.graph(name).reducer("trail", "append")
    for node in nodes:
        graph.node(node, visit)
    return graph


visiting("chain", "a", "b", "c").chain("a", "b", "c")
visiting("when", "a", "b", "c", "join").edge("a", "b", when="n > 1").edge("a", "c", when="n > 2").edge(
    "b", "join"
).edge("c", "join").fan_in("join")
visiting("lone_when", "a", "b").edge("a", "b", when="go")
visiting("switch", "a", "small", "big", "rest", "last").switch(
    "a", {"n < 10": "small", "n < 100": "big"}, default="rest"
).edge("small", "last").edge("big", "last").edge("rest", "last")
visiting("switch_to_end", "a", "b").switch("a", {"done": END}, default="b")
visiting("no_default", "a", "b").switch("a", {"n == 1": "b"})
visiting("broken_condition", "a", "b").edge("a", "b", when="n / zero > 1")
visiting("loop", "body", "out").node("lap", lap).chain("body", "lap", "out").goto("lap", "body")
visiting("lost", "other").node("lost", lost).edge("lost", "other").entry("lost")
visiting("fan_out", "a", "b", "c", "d", "join").fan_out("a", "b", "c", "d").edge("b", "join").edge(
    "c", "join"
).edge("d", "join").fan_in("join")
visiting("fan_out_to_end", "a", "b", "c").fan_out("a", "b", "c")
visiting("on_error", "a", "after").node("fail", fail).node("handle", handle).chain(
    "a", "fail", "after"
).on_error("fail", "handle")
visiting("on_routing_error", "a", "b").node("handle", handle).switch("a", {"n == 1": "b"}).on_error(
    "a", "handle"
)
visiting("lost_handled").node("lost", lost).node("handle", handle).on_error("lost", "handle")
visiting("both", "b").node("both", both).goto("both", "b").entry("both")


def trail(engine: Engine, workflow: str, **state: Any) -> list[str]:
    outcome = engine.run(workflow, state, timeout=10)
    assert (outcome.status, outcome.error) == ("completed", None)
    found = outcome.state.get("trail")
    assert isinstance(found, list)
    return found


def code(engine: Engine, workflow: str, **state: Any) -> str:
    outcome = engine.run(workflow, state, timeout=10)
    assert outcome.status == "failed"
    assert outcome.error is not None
    return outcome.error.code


def test_a_chain_runs_in_order(engine: Engine) -> None:
    assert trail(engine, "chain") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("n", "expected"), [(3, ["a", "b", "c", "join"]), (2, ["a", "b", "join"]), (0, ["a", "join"])]
)
def test_every_when_that_holds_is_taken_and_an_empty_cohort_joins_at_once(
    engine: Engine, n: int, expected: list[str]
) -> None:
    assert trail(engine, "when", n=n) == expected


def test_a_lone_when_that_is_false_ends_the_flow_as_completed(engine: Engine) -> None:
    assert trail(engine, "lone_when", go=False) == ["a"]
    assert trail(engine, "lone_when", go=True) == ["a", "b"]


@pytest.mark.parametrize(("n", "arm"), [(1, "small"), (50, "big"), (500, "rest"), ("x", "rest")])
def test_a_switch_takes_the_first_arm_that_holds(engine: Engine, n: Any, arm: str) -> None:
    assert trail(engine, "switch", n=n) == ["a", arm, "last"]


def test_a_switch_may_lead_to_the_end(engine: Engine) -> None:
    assert trail(engine, "switch_to_end", done=True) == ["a"]
    assert trail(engine, "switch_to_end") == ["a", "b"]


def test_a_goto_loops_until_the_task_asks_no_more(engine: Engine) -> None:
    assert trail(engine, "loop", laps=3) == ["body", "lap"] * 3 + ["out"]


def test_all_arms_of_a_fan_out_join_in_the_order_of_their_edges(engine: Engine) -> None:
    assert trail(engine, "fan_out") == ["a", "b", "c", "d", "join"]


def test_branches_may_meet_at_the_end(engine: Engine) -> None:
    assert trail(engine, "fan_out_to_end") == ["a", "b", "c"]


def test_a_handler_sees_the_error_and_not_the_changes_of_the_failed_attempt(engine: Engine) -> None:
    outcome = engine.run("on_error", timeout=10)
    assert outcome.status == "completed"
    assert outcome.state["trail"] == ["a", "handle"]
    assert "unsafe" not in outcome.state
    assert outcome.state["handled"] == {
        "code": "no_stock",
        "message": "nothing left",
        "type": "penstock.errors.Permanent",
        "node": "fail",
        "step_key": f"{outcome.key}/2",
        "data": {"left": 0},
    }
    steps = engine.history(outcome.key)
    assert [(step.node, step.status) for step in steps] == [
        ("a", "completed"),
        ("fail", "routed"),
        ("handle", "completed"),
    ]


def test_errors_of_routing_are_errors_of_the_step(engine: Engine) -> None:
    assert code(engine, "no_default", n=2) == "no_match"
    assert code(engine, "broken_condition", n=1, zero=0) == "condition"
    assert code(engine, "lost") == "unknown_goto"
    assert code(engine, "both") == "competing_signals"


def test_errors_of_routing_are_routed_too(engine: Engine) -> None:
    outcome = engine.run("on_routing_error", {"n": 2}, timeout=10)
    assert outcome.status == "completed"
    assert outcome.state["handled"]["code"] == "no_match"
    assert engine.run("lost_handled", timeout=10).status == "completed"
