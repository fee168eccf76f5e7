"""What a state may hold: large, exact, and any string that JSON can spell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Engine, Flow, Invalid, Permanent
from tests.support.database import query

app = App("values")

MEGABYTE = 1 << 20


@app.task
def step(flow: Flow) -> dict[str, Any]:
    return {"count": 1}


@app.task
def echo(flow: Flow, value: Any) -> dict[str, Any]:
    return {"back": value, "through": flow["value"]}


@app.task
def add_one(n: int) -> dict[str, int]:
    return {"n": n + 1, "sum": n}


@app.task
def write_bad(flow: Flow, kind: str) -> dict[str, Any]:
    return {"bad": {"nan": float("nan"), "set": {1}, "object": object()}[kind]}


@app.task
def contribute_text(flow: Flow) -> dict[str, Any]:
    return {"sum": "three"}


@app.task
def ask_and_fail(flow: Flow, n: int) -> None:
    flow["child"] = flow.subgraph("exact", {"n": n, "sum": n})["sum"]
    flow["answers"] = [flow.interrupt({"n": n}), flow.wait_signal("more"), flow.baggage["n"]]
    raise Permanent("done", data={"n": n})


@app.task
def forget(flow: Flow) -> dict[str, Any]:
    del flow["gone"]
    flow.overwrite("sum", 7)
    return {"nulled": None}


app.graph("ten").reducer("count", "add")
for number in range(10):
    app.get_graph("ten").node(f"n{number}", step)
app.get_graph("ten").chain(*(f"n{number}" for number in range(10)))
app.graph("echo").chain(echo)
app.graph("exact").node("a", add_one).node("b", add_one).chain("a", "b").reducer("sum", "add")
app.graph("branch").node("a", add_one).node("yes", step).node("no", step).switch(
    "a", {"n == 9007199254740993": "yes"}, default="no"
)
app.graph("bad").chain(write_bad)
app.graph("ask").chain(ask_and_fail)
app.graph("text").chain(contribute_text).reducer("sum", "add")
app.graph("forget").chain(forget).reducer("sum", "add")

VALUES: list[Any] = [
    2**53 + 1,
    -(10**40),
    0.1,
    1e308,
    5e-324,
    -0.0,
    1.0,
    "\0 and \0",
    "\ud800 alone",
    '𝄞 é \u2028 \\ " /',
    {"": {"\0": []}},
    [[], {}, [None, True, False]],
    [[[[[[[[[[1]]]]]]]]]],
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(engine: Engine, value: Any) -> None:
    outcome = engine.run("echo", {"value": value}, timeout=10)
    assert outcome.status == "completed"
    for name in ("back", "through", "value"):
        assert json.dumps(outcome.state[name]) == json.dumps(value)
    again = engine.snapshot(outcome.key)
    assert json.dumps(again.state) == json.dumps(outcome.state)


def test_integers_are_exact_at_any_size(engine: Engine) -> None:
    start = 10**60
    outcome = engine.run("exact", {"n": start, "sum": 1}, timeout=10)
    assert outcome.state == {"n": start + 2, "sum": 1 + start + start + 1}
    assert isinstance(outcome.state["n"], int)


def test_an_integer_that_python_would_not_print_passes_every_way_there_is(engine: Engine) -> None:
    n = 10**5000
    key = engine.create("ask", {"n": n}, idempotency_key="long", baggage={"n": n})
    assert engine.create("ask", {"n": n}, idempotency_key="long") == key
    (asked,) = engine.wait(key, timeout=10).interrupts
    assert asked.payload == {"n": n}
    engine.resume(key, n + 1)
    engine.signal(key, "more", [n + 2])
    failed = engine.wait(key, timeout=10)
    assert failed.error is not None
    assert (failed.error.code, failed.error.data) == ("done", {"n": n})
    (step,) = engine.history(key)
    assert engine.step(step.key).state == {"n": n}
    engine.restart(key, {"n": n + 1})
    (asked,) = engine.wait(key, timeout=10).interrupts
    assert (asked.payload, engine.snapshot(key).state["child"]) == ({"n": n + 1}, 3 * n + 4)


def test_what_is_sent_and_has_no_form_in_json_is_refused_with_a_way_out(engine: Engine) -> None:
    key = engine.create("ask", {"n": 1}, baggage={"n": 1})
    engine.wait(key, timeout=10)
    with pytest.raises(Invalid, match=r"the answer cannot be stored: .* write sorted\(value\)"):
        engine.resume(key, {1})
    with pytest.raises(Invalid, match="the payload cannot be stored: NaN"):
        engine.signal(key, "more", [10**5000, float("nan")])


def test_conditions_compare_integers_exactly(engine: Engine) -> None:
    for given, node in ((2**53, "yes"), (2**53 - 1, "no"), (2**53 + 1, "no")):
        outcome = engine.run("branch", {"n": given}, timeout=10)
        assert engine.history(outcome.key)[-1].node == node


@pytest.mark.parametrize("kind", ["nan", "set", "object"])
def test_what_is_no_json_is_an_error_of_the_step_that_wrote_it(engine: Engine, kind: str) -> None:
    outcome = engine.run("bad", {"kind": kind}, timeout=10)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("invalid_state", "write_bad")
    assert "bad" in outcome.error.message


def test_a_contribution_of_the_wrong_type_is_an_error_of_its_step(engine: Engine) -> None:
    outcome = engine.run("text", timeout=10)
    assert outcome.error is not None
    assert outcome.error.code == "reducer"


def test_fields_are_deleted_nulled_and_overwritten(engine: Engine) -> None:
    outcome = engine.run("forget", {"gone": 1, "nulled": 2, "sum": 3, "kept": 4}, timeout=10)
    assert outcome.state == {"sum": 7, "kept": 4}


def test_a_megabyte_is_stored_once_however_many_steps_carry_it(database_url: str, database: Path) -> None:
    big = "x" * MEGABYTE
    with Engine(app, database_url) as engine:
        outcome = engine.run("ten", {"big": big, "count": 5}, timeout=20)
    assert outcome.state == {"big": big, "count": 15}
    ((rows, journal),) = query(database, "SELECT count(*), sum(length(body)) FROM penstock_journal")
    assert rows == 10
    assert journal < 2_000
    ((given, final),) = query(database, "SELECT length(input), length(output) FROM penstock_flows")
    assert MEGABYTE <= given < MEGABYTE + 100
    assert MEGABYTE <= final < MEGABYTE + 100


def test_a_megabyte_passes_through_workers(database_url: str) -> None:
    big = ["y" * 1_000] * 1_000
    with Engine(app, database_url, workers=2) as engine:
        keys = engine.create_many("echo", [{"value": big}] * 4)
        for key in keys:
            assert engine.wait(key, timeout=30).state["back"] == big
