"""Cohorts: what a branch sees, where it joins, what comes out empty, how cohorts nest and loop."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import END, App, Engine
from tests.support.acting import acting, done, failed, go, visits
from tests.support.waiting import eventually

app = App("conformance cohorts")

acting(app, "each", "s b j").for_each("s", "b", over="items").edge("b", "j").fan_in("j").reducer(
    "log", "append"
)
acting(app, "each bound", "s b j").for_each("s", "b", over="items", bind="one").edge("b", "j").fan_in("j")
acting(app, "mixed", "s a b c j").edge("s", "a").for_each("s", "b", over="items").edge(
    "s", "c", when="n > 0"
).edge("a", "j").edge("b", "j").edge("c", "j").fan_in("j").reducer("log", "append")
acting(app, "direct", "s b j").edge("s", "j").edge("s", "b").edge("b", "j").fan_in("j").reducer(
    "log", "append"
)
acting(app, "only direct", "s b j").edge("s", "j").edge("s", "b", when="go").edge("b", "j").fan_in("j")
acting(app, "by switch", "s b m j").for_each("s", "b", over="items").switch(
    "b", {"item > 1": "m"}, default="j"
).edge("m", "j").fan_in("j").reducer("log", "append")
acting(app, "by switch alone", "s b j after").for_each("s", "b", over="items").switch(
    "b", {"item > 1": "j"}, default="j"
).fan_in("j").edge("j", "after")
acting(app, "by goto alone", "s b j after").for_each("s", "b", over="items").goto("b", "j").fan_in("j").edge(
    "j", "after"
)
acting(app, "by error", "s b c j after").for_each("s", "b", over="items").edge("b", "c").edge(
    "c", "j"
).on_error("b", "j").fan_in("j").edge("j", "after").reducer("log", "append")
acting(app, "by handler", "s b h j").for_each("s", "b", over="items").edge("b", "j").on_error("b", "h").edge(
    "h", "j"
).fan_in("j").reducer("log", "append")
acting(app, "tail", "s x y t j").fan_out("s", "x", "y").edge("x", "t").edge("y", "t").edge("t", "j").fan_in(
    "j"
).reducer("log", "append")
acting(app, "to end", "s b c").for_each("s", "b", over="items").edge("b", "c").reducer("log", "append")
acting(app, "loop over a fan-out", "s x y j").fan_out("s", "x", "y").edge("x", "j").edge("y", "j").fan_in(
    "j"
).goto("j", "s").edge("j", END).reducer("log", "append").reducer("n", "add")
acting(app, "two in a row", "a b c j d e k").fan_out("a", "b", "c").edge("b", "j").edge("c", "j").fan_in(
    "j"
).fan_out("j", "d", "e").edge("d", "k").edge("e", "k").fan_in("k").reducer("log", "append")
acting(app, "join shared", "s a b c d e f j").switch("s", {"n > 0": "a"}, default="b").fan_out(
    "a", "c", "d"
).fan_out("b", "e", "f").edge("c", "j").edge("d", "j").edge("e", "j").edge("f", "j").fan_in("j").reducer(
    "log", "append"
)
acting(app, "nested", "s row cell in out").for_each("s", "row", over="rows", bind="r").for_each(
    "row", "cell", over="cells", bind="c"
).edge("cell", "in").fan_in("in").edge("in", "out").fan_in("out").reducer("log", "append")
acting(app, "inner join joins outer", "s a b x y in out").fan_out("s", "a", "b").fan_out("a", "x", "y").edge(
    "x", "in"
).edge("y", "in").fan_in("in").switch("in", {"true": "out"}).edge("b", "out").fan_in("out").reducer(
    "log", "append"
)

ITEM: dict[str, Any] = {"b": [["contribute", "item", "log"]]}


def test_a_branch_sees_its_element_its_place_the_count_and_the_source_array(engine: Engine) -> None:
    outcome = go(engine, "each bound", {"b": [["fields", "seen"]]}, items=["p", "q"])
    steps = [step for step in engine.history(outcome.key) if step.node == "b"]
    views = [engine.step(step.key).state or {} for step in steps]
    for at, view in enumerate(views):
        assert {name: view[name] for name in ("one", "one_index", "one_count", "items")} == {
            "one": "pq"[at],
            "one_index": at,
            "one_count": 2,
            "items": ["p", "q"],
        }
    assert outcome.state["seen"] == ["items", "one", "one_count", "one_index"]


def test_the_names_of_a_branch_are_gone_after_the_join_even_if_a_task_wrote_them(engine: Engine) -> None:
    orders: dict[str, Any] = {
        "b": [["set", "item", "mine"], ["set", "item_count", 9]],
        "j": [["fields", "left"]],
    }
    assert done(engine, "each", orders, items=[1])["left"] == ["items"]


@pytest.mark.parametrize("state", [{"items": []}, {}, {"items": None}])
def test_an_empty_cohort_runs_its_join_at_once_with_what_the_source_wrote(
    engine: Engine, state: dict[str, Any]
) -> None:
    outcome = go(
        engine, "each", {"s": [["set", "log", "s"]], "j": [["set", "log", "j"]]}, log=["in"], **state
    )
    assert visits(engine, outcome) == ["s", "j"]
    assert outcome.state["log"] == ["in", "s", "j"]


@pytest.mark.parametrize("items", [{"a": 1}, "text", 5, True])
def test_what_is_no_array_is_an_error_of_the_source(engine: Engine, items: Any) -> None:
    assert failed(engine, "each", items=items) == ("condition", "s")


def test_an_empty_cohort_whose_join_only_a_switch_or_a_goto_reaches_runs_it_too(engine: Engine) -> None:
    assert visits(engine, go(engine, "by switch alone", items=[])) == ["s", "j", "after"]
    assert visits(engine, go(engine, "by goto alone", items=[])) == ["s", "j", "after"]


def test_an_empty_cohort_before_the_end_completes_the_flow(engine: Engine) -> None:
    assert done(engine, "to end", {"s": [["set", "log", 1]]}, items=[]) == {"items": [], "log": [1]}


def test_an_empty_inner_cohort_is_one_arrival_of_its_branch(engine: Engine) -> None:
    rows = [{"do": [["set", "cells", []], ["set", "log", "r"]]}, {"do": [["set", "cells", [1]]]}]
    state = done(
        engine,
        "nested",
        {"row": "r", "cell": [["contribute", "c", "log"]], "in": [["set", "log", "in"]]},
        rows=rows,
    )
    assert state["log"] == ["r", "in", 1, "in"]


def test_nested_elements_are_stripped_at_their_own_join_only(engine: Engine) -> None:
    orders: dict[str, Any] = {"row": "r", "in": [["fields", "inner"]], "out": [["fields", "outer"]]}
    state = done(engine, "nested", orders, rows=[{"do": [["set", "cells", [1, 2]]]}])
    assert state["inner"] == ["cells", "r", "r_count", "r_index", "rows"]
    assert state["outer"] == ["cells", "inner", "rows"]


def test_plain_conditional_and_each_edges_make_one_cohort_in_the_order_of_the_edges(engine: Engine) -> None:
    orders: dict[str, Any] = {"a": [["set", "log", "a"]], **ITEM, "c": [["set", "log", "c"]]}
    outcome = go(engine, "mixed", orders, items=[1, 2], n=1)
    assert outcome.state["log"] == ["a", 1, 2, "c"]
    ordinals = [(step.node, step.ordinal) for step in engine.history(outcome.key)]
    assert ordinals == [("s", None), ("a", 0), ("b", 1), ("b", 2), ("c", 3), ("j", None)]
    assert done(engine, "mixed", orders, items=[], n=0)["log"] == ["a"]


def test_an_edge_straight_to_the_join_waits_for_the_other_branches_and_contributes_nothing(
    engine: Engine,
) -> None:
    orders: dict[str, Any] = {
        "s": [["set", "log", "s"]],
        "b": [["set", "log", "b"]],
        "j": [["set", "log", "j"]],
    }
    outcome = go(engine, "direct", orders)
    assert visits(engine, outcome) == ["s", "b", "j"]
    assert outcome.state["log"] == ["s", "b", "j"]


def test_an_edge_straight_to_the_join_alone_runs_it_at_once(engine: Engine) -> None:
    assert visits(engine, go(engine, "only direct")) == ["s", "j"]


def test_branches_that_reach_the_join_by_a_switch_count(engine: Engine) -> None:
    orders: dict[str, Any] = {**ITEM, "m": [["set", "log", "m"]]}
    assert done(engine, "by switch", orders, items=[1, 2, 3])["log"] == [1, 2, "m", 3, "m"]


def test_branches_that_reach_the_join_by_a_goto_count(engine: Engine) -> None:
    outcome = go(engine, "by goto alone", {"b": [["goto", "j"]]}, items=[1, 2])
    assert visits(engine, outcome)[-2:] == ["j", "after"]


def test_branches_that_reach_the_join_by_on_error_count_and_nothing_after_the_join_is_lost(
    engine: Engine,
) -> None:
    items = [{"do": [["set", "log", "lost"], ["fail", "x"]]}, {"do": [["set", "log", "kept"]]}]
    orders: dict[str, Any] = {
        "b": "item",
        "c": [["set", "log", "c"]],
        "j": [["set", "log", "j"]],
        "after": [["set", "log", "after"]],
    }
    outcome = go(engine, "by error", orders, items=items)
    assert outcome.status == "completed"
    assert outcome.state["log"] == ["kept", "c", "j", "after"]
    assert outcome.state["on_error"]["code"] == "x"


def test_a_branch_with_a_handler_joins_and_is_no_failure(engine: Engine) -> None:
    items = [{"do": [["fail", "x"]]}, {"do": [["set", "log", 2]]}]
    assert done(engine, "by handler", {"b": "item", "h": [["set", "log", "mended"]]}, items=items)["log"] == [
        "mended",
        2,
    ]


def test_branches_may_share_their_later_nodes(engine: Engine) -> None:
    orders: dict[str, Any] = {
        "x": [["set", "log", "x"]],
        "y": [["set", "log", "y"]],
        "t": [["set", "log", "t"]],
    }
    assert done(engine, "tail", orders)["log"] == ["x", "t", "y", "t"]


def test_all_branches_may_end_at_the_end_which_is_then_their_join(engine: Engine) -> None:
    outcome = go(engine, "to end", {**ITEM, "c": [["set", "log", "c"]]}, items=[1, 2])
    assert outcome.state["log"] == [1, "c", 2, "c"]
    assert "item" not in outcome.state


def test_a_loop_over_a_fan_out_opens_a_new_cohort_each_lap(engine: Engine) -> None:
    orders: dict[str, Any] = {
        "x": [["set", "log", "x"], ["set", "n", 1]],
        "y": [["set", "log", "y"]],
        "j": [["goto_below", "s", "n", 3]],
    }
    state = done(engine, "loop over a fan-out", orders)
    assert (state["log"], state["n"]) == (["x", "y"] * 3, 3)


def test_a_join_may_open_the_next_cohort(engine: Engine) -> None:
    orders: dict[str, Any] = {node: [["set", "log", node]] for node in "abcjdek"}
    assert done(engine, "two in a row", orders)["log"] == list("abcjdek")


@pytest.mark.parametrize(("n", "log"), [(1, ["c", "d"]), (0, ["e", "f"])])
def test_two_cohorts_that_exclude_each_other_may_share_a_join(engine: Engine, n: int, log: list[str]) -> None:
    orders: dict[str, Any] = {node: [["set", "log", node]] for node in "cdef"}
    assert done(engine, "join shared", orders, n=n)["log"] == log


def test_an_inner_join_may_lead_to_the_outer_join_by_a_switch(engine: Engine) -> None:
    orders: dict[str, Any] = {node: [["set", "log", node]] for node in ("x", "y", "in", "b", "out")}
    assert done(engine, "inner join joins outer", orders)["log"] == ["x", "y", "in", "b", "out"]


def test_a_flow_is_interrupted_while_one_branch_asks_and_the_others_go_on(engine: Engine) -> None:
    items = [
        {"do": [["ask", "first"], ["set", "log", 1]]},
        {"do": [["set", "log", 2]]},
        {"do": [["ask", "third"], ["set", "log", 3]]},
    ]
    key = engine.create("each", {"do": {"b": "item"}, "items": items})
    assert engine.wait(key, timeout=20).status == "interrupted"
    eventually(lambda: len(engine.snapshot(key).interrupts) == 2, what="two questions")
    eventually(lambda: engine.snapshot(key).state.get("log") == [2], what="the branch that asks nothing")
    engine.resume(key)
    assert engine.snapshot(key).status == "interrupted"
    engine.resume(key)
    assert engine.wait(key, timeout=20).state["log"] == [1, 2, 3]


def test_a_failed_branch_beside_one_that_asks_fails_the_flow_only_after_the_answer(engine: Engine) -> None:
    items = [{"do": [["fail", "x"]]}, {"do": [["ask", "?"], ["set", "log", 2]]}]
    key = engine.create("each", {"do": {"b": "item"}, "items": items})
    eventually(
        lambda: [step.status for step in engine.history(key)][1:] == ["failed", "parked"],
        what="one failed, one asks",
    )
    assert engine.wait(key, timeout=20).status == "interrupted"
    engine.resume(key)
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.state["log"]) == ("failed", [2])
