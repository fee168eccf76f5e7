"""Where a finished step leads: every kind of edge, nothing that matches, errors of routing and their handlers."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import END, App, Engine, Flow, Retry
from tests.support.acting import acting, done, failed, go, visits

app = App("conformance routing")

acting(app, "plain", "a b").edge("a", "b")
acting(app, "no way out", "a b").switch("a", {"left": END}, default="b")
acting(app, "whens", "a b c j").edge("a", "b", when="n > 1").edge("a", "c", when="n > 2").edge("b", "j").edge(
    "c", "j"
).fan_in("j")
acting(app, "whens to end", "a b c").edge("a", "b", when="n > 1").edge("a", "c", when="n > 2")
acting(app, "lone when", "a b c").edge("a", "b", when="go").edge("b", "c")
acting(app, "switch", "a b c d").switch("a", {"n > 0": "b", "n > 1": "c"}, default="d")
acting(app, "switch twice", "a b c").switch("a", {"n > 5": "b"}).switch("a", {"n > 2": "c"}, default=END)
acting(app, "no default", "a b").switch("a", {"n == 1": "b"})
acting(app, "no default handled", "a b h").switch("a", {"n == 1": "b"}).on_error("a", "h")
acting(app, "branch whens", "s x y e j").fan_out("s", "x", "y").edge("x", "e", when="go").edge("e", "j").edge(
    "y", "j"
).fan_in("j")
acting(app, "branch switch", "s x y e j").fan_out("s", "x", "y").switch("x", {"go": "j"}).edge(
    "y", "j"
).fan_in("j").on_error("y", "e").edge("e", "j")
acting(app, "goto", "a b c").edge("a", "b", when="false").goto("a", "c")
acting(app, "goto handled", "a h").on_error("a", "h")
acting(app, "goto only", "a b").goto("a", "b")
acting(app, "goto end of source", "a b c j").fan_out("a", "b", "c").edge("b", "j").edge("c", "j").fan_in(
    "j"
).goto("a", END)
acting(app, "goto own join", "a b c j").fan_out("a", "b", "c").edge("b", "j").edge("c", "j").fan_in("j").goto(
    "a", "j"
)
acting(app, "goto join", "a b c m j").fan_out("a", "b", "c").edge("b", "m").edge("m", "j").edge(
    "c", "j"
).fan_in("j").goto("b", "j")
acting(app, "switch beside goto", "a b c").switch("a", {"n == 1": "b"}, default=END).goto("a", "c")
acting(app, "error", "a b h after").chain("a", "b").on_error("a", "h").edge("h", "after")
acting(app, "condition error", "a b h").edge("a", "b", when="n / zero > 1").on_error("a", "h")
acting(app, "condition error bare", "a b").edge("a", "b", when="n / zero > 1")
acting(app, "handler of handler", "a h i").on_error("a", "h").on_error("h", "i")
acting(app, "error then switch", "a h b c").on_error("a", "h").switch(
    "h", {"on_error.code == 'x'": "b"}, default="c"
)
acting(app, "alias", "first second").chain("first", "second")
acting(app, "retry before handler", "a h", a={"retry": Retry(3, 0)}).on_error("a", "h")


@app.task
def start(flow: Flow) -> None:
    if flow["way"] == "goto":
        flow.goto(asked)
    if flow["way"] == "fail":
        raise ValueError("failed")


@app.task
def left() -> dict[str, Any]:
    return {"trail": ["left"]}


@app.task
def right() -> dict[str, Any]:
    return {"trail": ["right"]}


@app.task
def meet() -> dict[str, Any]:
    return {"trail": ["meet"]}


@app.task
def asked() -> dict[str, Any]:
    return {"trail": ["asked"]}


@app.task
def rescue() -> dict[str, Any]:
    return {"trail": ["rescue"]}


@app.task(name="named otherwise")
def choose() -> None: ...


app.graph("functions").entry(start).fan_out(start, left, right).edge(left, meet).edge(right, meet).fan_in(
    meet
).goto(start, asked).on_error(start, rescue).switch(meet, {"deep": choose}, default=END).reducer(
    "trail", "append"
)


def test_a_plain_edge_is_taken(engine: Engine) -> None:
    assert visits(engine, go(engine, "plain")) == ["a", "b"]


def test_a_node_without_a_way_out_ends_the_flow(engine: Engine) -> None:
    assert visits(engine, go(engine, "no way out", left=True)) == ["a"]
    assert visits(engine, go(engine, "no way out", left=False)) == ["a", "b"]


@pytest.mark.parametrize(("n", "nodes"), [(3, ["a", "b", "c", "j"]), (2, ["a", "b", "j"]), (0, ["a", "j"])])
def test_each_when_is_evaluated_and_all_that_match_are_taken(
    engine: Engine, n: int, nodes: list[str]
) -> None:
    assert visits(engine, go(engine, "whens", n=n)) == nodes


def test_whens_of_which_none_holds_before_the_end_complete_the_flow(engine: Engine) -> None:
    outcome = go(engine, "whens to end", {"a": [["set", "x", 1]]}, n=0)
    assert (outcome.status, outcome.state["x"]) == ("completed", 1)


def test_a_lone_when_that_is_false_completes_the_flow(engine: Engine) -> None:
    outcome = go(engine, "lone when", {"a": [["set", "x", 1]]})
    assert (outcome.status, outcome.state["x"]) == ("completed", 1)
    assert visits(engine, outcome) == ["a"]


def test_a_condition_sees_what_the_step_changed(engine: Engine) -> None:
    assert visits(engine, go(engine, "lone when", {"a": [["set", "go", True]]}, go=False)) == ["a", "b", "c"]


@pytest.mark.parametrize(("n", "arm"), [(1, "b"), (2, "b"), (0, "d"), (None, "d")])
def test_a_switch_takes_the_first_arm_that_holds_or_the_default(engine: Engine, n: Any, arm: str) -> None:
    assert visits(engine, go(engine, "switch", n=n)) == ["a", arm]


@pytest.mark.parametrize(("n", "nodes"), [(9, ["a", "b"]), (3, ["a", "c"]), (0, ["a"])])
def test_arms_given_in_several_calls_are_one_switch_in_their_order(
    engine: Engine, n: int, nodes: list[str]
) -> None:
    assert visits(engine, go(engine, "switch twice", n=n)) == nodes


def test_a_switch_without_a_match_and_without_a_default_is_an_error_of_its_step(engine: Engine) -> None:
    assert failed(engine, "no default", n=2) == ("no_match", "a")
    state = done(engine, "no default handled", {"h": [["copy", "on_error", "seen"]]}, n=2)
    assert (state["seen"]["code"], state["seen"]["node"]) == ("no_match", "a")


def test_a_branch_that_matches_no_edge_is_an_error_of_its_step(engine: Engine) -> None:
    assert failed(engine, "branch whens", go=False) == ("no_match", "x")
    assert failed(engine, "branch switch", go=False) == ("no_match", "x")
    assert visits(engine, go(engine, "branch whens", go=True)) == ["s", "x", "y", "e", "j"]


def test_a_goto_overrides_every_condition(engine: Engine) -> None:
    assert visits(engine, go(engine, "goto", {"a": [["goto", "c"]]})) == ["a", "c"]
    assert visits(engine, go(engine, "switch beside goto", {"a": [["goto", "c"]]}, n=1)) == ["a", "c"]


def test_a_goto_edge_is_taken_only_when_the_task_asks(engine: Engine) -> None:
    assert visits(engine, go(engine, "goto")) == ["a"]
    assert visits(engine, go(engine, "goto only")) == ["a"]
    assert visits(engine, go(engine, "goto only", {"a": [["goto", "b"]]})) == ["a", "b"]


def test_a_goto_that_is_not_declared_is_an_error_of_the_step(engine: Engine) -> None:
    outcome = go(engine, "goto", {"a": [["goto", "b"], ["set", "x", 1]]})
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("unknown_goto", "a")
    assert '"c"' in outcome.error.message, "what is declared"
    assert "x" not in outcome.state, "an error voids the changes"
    assert done(engine, "goto handled", {"a": [["goto", "h"]]})["on_error"]["code"] == "unknown_goto"


def test_a_goto_to_the_end_from_a_fan_out_source_completes_the_flow(engine: Engine) -> None:
    assert visits(engine, go(engine, "goto end of source", {"a": [["goto", "END"]]})) == ["a"]


def test_a_goto_from_a_fan_out_source_to_its_own_join_opens_no_cohort(engine: Engine) -> None:
    assert visits(engine, go(engine, "goto own join", {"a": [["goto", "j"]]})) == ["a", "j"]


def test_a_goto_from_a_branch_to_the_join_is_an_arrival(engine: Engine) -> None:
    outcome = go(engine, "goto join", {"b": [["goto", "j"], ["set", "x", 1]]})
    assert sorted(visits(engine, outcome)) == ["a", "b", "c", "j"]
    assert (outcome.status, outcome.state["x"]) == ("completed", 1)


def test_the_handler_sees_the_error_and_the_flow_goes_on_after_it(engine: Engine) -> None:
    outcome = go(engine, "error", {"a": [["set", "x", 1], ["fail", "broken"]]})
    assert outcome.status == "completed"
    assert visits(engine, outcome) == ["a", "h", "after"]
    first = engine.history(outcome.key)[0]
    assert first.status == "routed"
    assert outcome.state["on_error"] == {
        "code": "broken",
        "message": "broken at a",
        "type": "penstock.errors.Permanent",
        "node": "a",
        "step_key": first.key,
        "data": None,
    }


def test_an_error_of_a_condition_is_an_error_of_its_step_and_is_routed(engine: Engine) -> None:
    assert failed(engine, "condition error bare", n=1, zero=0) == ("condition", "a")
    outcome = go(engine, "condition error", {"a": [["set", "x", 1]]}, n=1, zero=0)
    assert (outcome.status, outcome.state["on_error"]["code"]) == ("completed", "condition")
    assert "x" not in outcome.state


def test_a_handler_may_have_a_handler(engine: Engine) -> None:
    state = done(engine, "handler of handler", {"a": [["fail", "one"]], "h": [["fail", "two"]]})
    assert (state["on_error"]["code"], state["on_error"]["node"]) == ("two", "h")


@pytest.mark.parametrize(("code", "arm"), [("x", "b"), ("y", "c")])
def test_a_handler_may_switch_on_the_code(engine: Engine, code: str, arm: str) -> None:
    assert visits(engine, go(engine, "error then switch", {"a": [["fail", code]]})) == ["a", "h", arm]


def test_declared_retries_act_before_the_handler(engine: Engine) -> None:
    outcome = go(engine, "retry before handler", {"a": [["fail_first", 3]]})
    assert visits(engine, outcome) == ["a", "h"]
    assert [event.kind for event in engine.history(outcome.key)[0].events] == ["retry", "retry", "failed"]
    assert outcome.state["on_error"]["message"] == "attempt 2"
    permanent = go(engine, "retry before handler", {"a": [["fail", "at once"]]})
    assert [event.kind for event in engine.history(permanent.key)[0].events] == ["failed"]


def test_one_task_may_run_at_several_nodes(engine: Engine) -> None:
    outcome = go(engine, "alias", {"first": [["set", "x", 1]], "second": [["increase", "x"]]})
    assert outcome.state["x"] == 2
    assert [(step.node, step.task) for step in engine.history(outcome.key)] == [
        ("first", "act"),
        ("second", "act"),
    ]


@pytest.mark.parametrize(
    ("way", "trail"), [("fan", ["left", "right", "meet"]), ("goto", ["asked"]), ("fail", ["rescue"])]
)
def test_functions_stand_for_nodes_in_every_edge(engine: Engine, way: str, trail: list[str]) -> None:
    outcome = engine.run("functions", {"way": way, "deep": True}, timeout=20)
    assert (outcome.status, outcome.state["trail"]) == ("completed", trail)
    assert (engine.history(outcome.key)[-1].node == "named otherwise") is (way == "fan")
