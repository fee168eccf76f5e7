"""Every reducer at every fold: along a chain, at a join, at the end, through loops, nested cohorts and retries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock import END, App, Engine, Graph
from tests.support.acting import acting, done, failed, go

app = App("conformance reducers")

#: Reducer, input, three contributions, what they make.
CASES: list[tuple[str, Any, list[Any], Any]] = [
    ("replace", 0, [1, 2, 3], 3),
    ("append", [0], [[1], 2, [[3]]], [0, 1, 2, [3]]),
    ("append", None, ["a", ["b", "b"], []], ["a", "b", "b"]),
    ("append", "scalar", [1, [], {"x": []}], ["scalar", 1, {"x": []}]),
    ("union", [1, 1], [[1, 2], 2, [2.0, "2"]], [1, 1, 2, "2"]),
    (
        "union",
        None,
        [[{"a": 1, "b": [2]}], {"b": [2.0], "a": 1.0}, [None, [None]]],
        [{"a": 1, "b": [2]}, None, [None]],
    ),
    ("add", 2**60, [1, 2, -(2**70)], 2**60 + 3 - 2**70),
    ("add", None, [1, 2.5, 3], 6.5),
    ("min", 5, [3, 2**70, 3.5], 3),
    ("min", None, [2**53 + 1, 2**53, 2**53 + 2], 2**53),
    ("max", 5, [3, 2**70, 2.0**70], 2**70),
    (
        "merge",
        {"a": {"x": 1}, "b": 1},
        [{"a": {"y": 2}}, {"c": None}, {"b": 3}],
        {"a": {"y": 2}, "b": 3, "c": None},
    ),
    ("and", True, [True, False, True], False),
    ("and", None, [True, True, True], True),
    ("or", False, [False, True, False], True),
    ("concat", "é", ["\0", "", "b"], "é\0b"),
]

REDUCERS = sorted({case[0] for case in CASES})

for name in REDUCERS:
    acting(app, f"{name} end", "a").reducer("f", name)
    acting(app, f"{name} chain", "a b c d").chain("a", "b", "c", "d").reducer("f", name)
    acting(app, f"{name} join", "s x y z j").fan_out("s", "x", "y", "z").fan_in("j").edge("x", "j").edge(
        "y", "j"
    ).edge("z", "j").reducer("f", name)
    acting(app, f"{name} to end", "s x y z").fan_out("s", "x", "y", "z").reducer("f", name)
    acting(app, f"{name} each", "s b j").for_each("s", "b", over="items").edge("b", "j").fan_in("j").reducer(
        "f", name
    )


def same(left: Any, right: Any) -> bool:
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def inputs(base: Any) -> dict[str, Any]:
    return {} if base is None else {"f": base}


@pytest.mark.parametrize(("name", "base", "parts", "result"), CASES)
def test_every_reducer_folds_along_a_chain(
    engine: Engine, name: str, base: Any, parts: list[Any], result: Any
) -> None:
    orders: dict[str, Any] = {node: [["set", "f", part]] for node, part in zip("abc", parts, strict=True)}
    orders["d"] = [["copy", "f", "seen"]]
    state = done(engine, f"{name} chain", orders, **inputs(base))
    assert same(state, {"f": result, "seen": result})


@pytest.mark.parametrize(("name", "base", "parts", "result"), CASES)
def test_every_reducer_folds_at_a_join_in_the_order_of_the_edges(
    engine: Engine, name: str, base: Any, parts: list[Any], result: Any
) -> None:
    orders: dict[str, Any] = {node: [["set", "f", part]] for node, part in zip("xyz", parts, strict=True)}
    # The first branch asks, so that it arrives last, whatever the threads do.
    orders["x"].append(["ask", "?"])
    orders["j"] = [["copy", "f", "seen"]]
    key = engine.create(f"{name} join", {"do": orders, **inputs(base)})
    assert engine.wait(key, timeout=20).status == "interrupted"
    engine.resume(key)
    outcome = engine.wait(key, timeout=20)
    assert same([outcome.state["f"], outcome.state["seen"]], [result, result])


@pytest.mark.parametrize(("name", "base", "parts", "result"), CASES)
def test_every_reducer_folds_branches_that_end_at_the_end(
    engine: Engine, name: str, base: Any, parts: list[Any], result: Any
) -> None:
    orders: dict[str, Any] = {node: [["set", "f", part]] for node, part in zip("xyz", parts, strict=True)}
    assert same(done(engine, f"{name} to end", orders, **inputs(base)), {"f": result})


@pytest.mark.parametrize(("name", "base", "parts", "result"), CASES)
def test_every_reducer_folds_the_branches_of_a_for_each(
    engine: Engine, name: str, base: Any, parts: list[Any], result: Any
) -> None:
    items = [{"do": [["set", "f", part]]} for part in parts]
    state = done(engine, f"{name} each", {"b": "item"}, items=items, **inputs(base))
    assert same(state["f"], result)
    assert set(state) == {"f", "items"}


@pytest.mark.parametrize("name", REDUCERS)
def test_the_last_step_contributes_once(engine: Engine, name: str) -> None:
    base, part, result = {
        "replace": (1, 2, 2),
        "append": ([1], 2, [1, 2]),
        "union": ([1], [1, 2], [1, 2]),
        "add": (1, 2, 3),
        "min": (1, 2, 1),
        "max": (1, 2, 2),
        "merge": ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        "and": (True, False, False),
        "or": (False, True, True),
        "concat": ("a", "b", "ab"),
    }[name]
    assert done(engine, f"{name} end", {"a": [["set", "f", part]]}, f=base) == {"f": result}


acting(app, "loop", "a").goto("a", "a").edge("a", END).reducer("n", "add").reducer("log", "append")
acting(app, "branch loop", "s b j").for_each("s", "b", over="items").goto("b", "b").edge("b", "j").fan_in(
    "j"
).reducer("log", "append")


def nested(name: str) -> Graph:
    graph = acting(app, name, "s row cell pair line out")
    graph.for_each("s", "row", over="rows", bind="r").for_each("row", "cell", over="cells", bind="c")
    graph.edge("cell", "pair").fan_in("pair").edge("pair", "line").edge("line", "out").fan_in("out")
    return graph.reducer("log", "append").reducer("n", "add")


nested("nested")
acting(app, "deep", "a b c d x e f g").for_each("a", "b", over="as", bind="a").for_each(
    "b", "c", over="bs", bind="b"
).for_each("c", "d", over="cs", bind="c").edge("d", "e").fan_in("e").edge("e", "f").fan_in("f").edge(
    "f", "g"
).fan_in("g").edge("a", "x").edge("x", "g").reducer("log", "append")


def test_every_lap_of_a_loop_contributes(engine: Engine) -> None:
    orders: dict[str, Any] = {"a": [["set", "n", 1], ["set", "log", "lap"], ["goto_below", "a", "n", 4]]}
    assert done(engine, "loop", orders, n=0) == {"n": 4, "log": ["lap"] * 4}


def test_every_lap_of_a_branch_contributes_at_its_place(engine: Engine) -> None:
    items = [
        {"do": [["set", "log", f"{at}"], ["increase", "lap"], ["goto_below", "b", "lap", at]]}
        for at in (3, 1, 2)
    ]
    state = done(engine, "branch loop", {"b": "item", "j": [["set", "log", "join"]]}, items=items, log=["in"])
    assert state["log"] == ["in", "3", "3", "3", "1", "2", "2", "join"]


def test_an_inner_cohort_stands_as_one_unit_at_its_place_in_its_branch(engine: Engine) -> None:
    rows = [
        {"do": [["set", "cells", cells], ["set", "log", f"row {at}"]]}
        for at, cells in enumerate([["a", "b"], [], ["c"]])
    ]
    orders: dict[str, Any] = {
        "s": [["set", "log", "s"]],
        "row": "r",
        "cell": [["contribute", "c", "log"], ["set", "n", 1]],
        "pair": [["set", "log", "pair"]],
        "line": [["contribute", "r_index", "log"]],
        "out": [["fields", "left"]],
    }
    state = done(engine, "nested", orders, rows=rows)
    assert state["log"] == ["s", "row 0", "a", "b", "pair", 0, "row 1", "pair", 1, "row 2", "c", "pair", 2]
    assert state["n"] == 3
    assert state["left"] == ["cells", "log", "n", "rows"]


def test_what_an_inner_join_folded_reaches_the_outer_join_without_being_written_again(engine: Engine) -> None:
    orders: dict[str, Any] = {
        "b": [["contribute", "a", "log"]],
        "d": [["contribute", "c", "log"]],
        "f": [["contribute", "a_index", "log"]],
        "x": [["set", "log", "x"]],
    }
    state = done(engine, "deep", orders, **{"as": ["p", "q"], "bs": [1, 2], "cs": ["u", "v"]})
    assert state["log"] == ["p", "u", "v", "u", "v", 0, "q", "u", "v", "u", "v", 1, "x"]


def test_a_wrong_type_in_a_branch_is_an_error_of_that_branch_alone(engine: Engine) -> None:
    outcome = go(
        engine, "add join", {"x": [["set", "f", 1]], "y": [["set", "f", "two"]], "z": [["set", "f", 3]]}, f=10
    )
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("reducer", "y")
    assert outcome.state["f"] == 14, "the state of a failed cohort is the fold of what completed"


@pytest.mark.parametrize("name", ["add", "min", "max", "merge", "and", "or", "concat"])
def test_a_type_that_the_reducer_does_not_take_names_field_and_reducer(engine: Engine, name: str) -> None:
    outcome = go(engine, f"{name} end", {"a": [["set", "f", [1]]]})
    assert outcome.error is not None
    assert outcome.error.code == "reducer"
    assert "`f`" in outcome.error.message
    assert f"`{name}`" in outcome.error.message


def test_a_bool_is_no_number(engine: Engine) -> None:
    assert failed(engine, "add end", {"a": [["set", "f", True]]}) == ("reducer", "a")
