"""How attempts fail: classes and codes, where each failure is routed, and what of it is kept."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

import pytest

from penstock import App, Engine, Flow, Retry
from penstock.errors import (
    InterruptTimeout,
    Permanent,
    RateLimited,
    Retryable,
    SubgraphFailed,
    Unavailable,
)

app = App("errors")
MEMBERS = {"code", "message", "type", "node", "step_key", "data"}


class OutOfStock(Exception):  # noqa: N818 - applications name theirs as they like
    """An exception of the application's own."""


@app.task
def rescue(on_error: dict[str, Any]) -> dict[str, Any]:
    return {"rescued": on_error}


@app.task
def raise_(kind: str) -> None:
    raise {
        "plain": ValueError("a plain one"),
        "own": OutOfStock("sold out"),
        "retryable": Retryable("busy", "try later", data={"queue": 3}),
        "permanent": Permanent("declined", data=[1]),
        "interrupt_timeout": InterruptTimeout("too late"),
        "exit": SystemExit(3),
    }[kind]


@app.task
def write(kind: str, flow: Flow) -> dict[str, Any]:
    values = {"nan": float("nan"), "object": object(), "big": "x" * (17 << 20)}
    return {"field": values[kind]}


@app.task
def contribute() -> dict[str, Any]:
    return {"total": "not a number"}


@app.task
def mistype(number: int) -> None: ...


@app.task
def misread(flow: Flow) -> None:
    flow.get("number", int)


@app.task
def go_nowhere(flow: Flow) -> None:
    flow.goto("nowhere")


@app.task
def go_and_retry(flow: Flow) -> None:
    flow.goto("rescue")
    flow.retry(1)


@app.task
def swallow(flow: Flow) -> dict[str, bool]:
    try:
        flow.interrupt("?")
    except BaseException:  # noqa: BLE001 - what a careless task does
        flow.goto("rescue")
    return {"returned": True}


@app.task
def call_badly(flow: Flow) -> None:
    flow.interrupt("?", tiemout=3)  # type: ignore[call-arg]


@app.task
def call_a_failing_child(flow: Flow) -> None:
    flow.subgraph("failing", {"kind": "permanent"})


@app.task
def call_an_unknown_child(flow: Flow) -> None:
    flow.subgraph("no such workflow")


@app.task
def catch_a_failing_child(flow: Flow) -> dict[str, Any]:
    try:
        flow.subgraph("failing", {"kind": "permanent"})
    except SubgraphFailed as error:
        return {"caught": [error.code, error.message, error.data]}
    return {}


@app.task
def die(flow: Flow) -> None:
    while not flow.is_cancelled:
        time.sleep(0.005)


@app.task
def kill_the_worker() -> None:
    os._exit(9)


@app.task
def nothing() -> None: ...


@app.task
def loop(flow: Flow) -> None:
    flow.goto("work")


@app.task
def ask_again_and_fail(flow: Flow) -> None:
    if flow.attempt == 0:
        flow["unsafe"] = 1
        flow.retry(0.001)
        flow.delay(5)
        raise ValueError("wins")


@app.task
def park_after_signals(flow: Flow) -> dict[str, Any]:
    if not flow.get("asked", bool, False):
        flow.goto("rescue")
        flow["asked"] = True
    return {"answer": flow.sleep(0.001)}


@app.task
def bounce(flow: Flow, kind: str, times: int) -> dict[str, Any]:
    seen = tries.setdefault(flow.key, [])
    seen.append(flow.attempt)
    if len(seen) <= times:
        raise RateLimited(timedelta(milliseconds=1)) if kind == "limited" else Unavailable("away")
    return {"attempts": seen}


@app.task
def retry_with_delay(flow: Flow) -> dict[str, Any]:
    if flow.attempt == 0:
        flow.delay(0.1)
        flow.retry(0.1)
        return {"at": flow.now.timestamp()}
    return {"waited": flow.now.timestamp() - flow.get("at", float)}


@app.task
def ask_within_horizons(flow: Flow) -> dict[str, Any]:
    time.sleep(0.01)
    if flow.attempt == 0:
        asked = [flow.retry(10, give_up_after=10), flow.retry(0.001, give_up_after=timedelta(seconds=10))]
        return {"asked": asked}
    return {"again": flow.retry(0.001, give_up_after=0.001), "attempt": flow.attempt}


@app.task
def fail_by_attempt(flow: Flow) -> dict[str, Any]:
    errors = [ValueError("first"), Retryable("busy", "second"), OutOfStock("third")]
    if flow.attempt < len(errors):
        raise errors[flow.attempt]
    return {"attempts": flow.attempt}


tries: dict[str, list[int]] = {}


def routed(name: str, task: Any, **options: Any) -> Any:
    """Two graphs: one where a failure of `task` is routed, and one where it fails the flow."""
    for workflow in (name, f"{name}/unrouted"):
        graph = app.graph(workflow).node("work", task, **options)
        if workflow == name:
            graph.node("rescue", rescue).on_error("work", "rescue")
            yield graph
        else:
            yield graph


FAILURES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "plain": (raise_, {"kind": "plain"}, "error"),
    "own": (raise_, {"kind": "own"}, "error"),
    "retryable": (raise_, {"kind": "retryable"}, "busy"),
    "permanent": (raise_, {"kind": "permanent"}, "declined"),
    "interrupt_timeout": (raise_, {"kind": "interrupt_timeout"}, "interrupt_timeout"),
    "exit": (raise_, {"kind": "exit"}, "error"),
    "nan": (write, {"kind": "nan"}, "invalid_state"),
    "object": (write, {"kind": "object"}, "invalid_state"),
    "big": (write, {"kind": "big"}, "payload_too_large"),
    "contribution": (contribute, {}, "reducer"),
    "mistyped": (mistype, {"number": "x"}, "invalid_state"),
    "absent": (mistype, {}, "invalid_state"),
    "misread": (misread, {"number": "x"}, "invalid_state"),
    "unknown_goto": (go_nowhere, {}, "unknown_goto"),
    "competing": (go_and_retry, {}, "competing_signals"),
    "swallowed": (swallow, {}, "error"),
    "bad_call": (call_badly, {}, "error"),
    "child": (call_a_failing_child, {}, "declined"),
    "unknown_child": (call_an_unknown_child, {}, "not_found"),
    "time_budget": (die, {}, "time_budget"),
    "no_match": (nothing, {}, "no_match"),
    "condition": (nothing, {"zero": 0}, "condition"),
    "error_after_signals": (ask_again_and_fail, {}, "error"),
}

for name, (task, _, _) in FAILURES.items():
    budget = {"time_budget": 0.1} if name == "time_budget" else {}
    for graph in routed(name, task, **budget):
        if name in ("contribution",):
            graph.reducer("total", "add")
        if name == "competing":
            graph.node("other", nothing).goto("work", "other").edge("work", "END")
        if name == "no_match":
            graph.switch("work", {"false": "END"})
        if name == "condition":
            graph.switch("work", {"1 / zero == 1": "END"}, default="END")

poison = app.graph("poison").node("work", kill_the_worker).node("rescue", rescue)
poison.on_error("work", "rescue")
app.graph("failing").node("work", raise_, retry=Retry(2, 0.001))
app.graph("catching").node("work", catch_a_failing_child)
app.graph("parked").node("work", park_after_signals).node("rescue", nothing).goto("work", "rescue").edge(
    "work", "END"
)
app.graph("bounced").node("work", bounce, retry=Retry(2, 0.001))
app.graph("delayed").node("work", retry_with_delay)
app.graph("horizons").node("work", ask_within_horizons)
app.graph("by_attempt").node("work", fail_by_attempt, retry=Retry(4, 0.001))
for name, options in {
    "on_type": {"on": (ValueError, "busy")},
    "on_code": {"on": ("error", "busy")},
    "not_on_type": {"not_on": (OutOfStock,)},
    "late": {"give_up_after": 0.05, "multiplier": 100},
}.items():
    app.graph(f"by_attempt_{name}").node("work", fail_by_attempt, retry=Retry(4, 0.001, **options))


@pytest.mark.parametrize("name", FAILURES)
def test_every_failure_of_a_step_is_routed(engine: Engine, name: str) -> None:
    _, state, code = FAILURES[name]
    outcome = engine.run(name, state, timeout=20)
    assert outcome.status == "completed", outcome.error
    seen = outcome.state["rescued"]
    assert set(seen) == MEMBERS, "neither more nor less, so no trace of the stack either"
    assert (seen["code"], seen["node"]) == (code, "work")
    assert seen["step_key"] == engine.history(outcome.key)[0].key
    assert "Traceback" not in str(seen)
    assert "unsafe" not in outcome.state


@pytest.mark.parametrize("name", FAILURES)
def test_without_a_route_the_flow_fails_with_it(engine: Engine, name: str) -> None:
    _, state, code = FAILURES[name]
    outcome = engine.run(f"{name}/unrouted", state, timeout=20)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == (code, "work")
    assert outcome.state == state, "an error voids what the attempt changed"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("plain", ("error", "a plain one", "ValueError", False, None)),
        ("own", ("error", "sold out", f"{__name__}.OutOfStock", False, None)),
        ("retryable", ("busy", "try later", "penstock.errors.Retryable", True, {"queue": 3})),
        ("permanent", ("declined", "declined", "penstock.errors.Permanent", False, [1])),
    ],
)
def test_an_error_keeps_its_code_message_type_and_data(
    engine: Engine, kind: str, expected: tuple[Any, ...]
) -> None:
    error = engine.run(f"{kind}/unrouted", {"kind": kind}, timeout=20).error
    assert error is not None
    assert (error.code, error.message, error.type, error.retryable, error.data) == expected


def test_a_failed_child_may_be_caught_with_its_code_message_and_data(engine: Engine) -> None:
    outcome = engine.run("catching", timeout=20)
    assert outcome.status == "completed", outcome.error
    assert outcome.state["caught"] == ["declined", "declined", [1]]


def test_a_park_drops_the_signals_before_it(engine: Engine) -> None:
    outcome = engine.run("parked", timeout=20)
    assert [step.node for step in engine.history(outcome.key)] == ["work"]


@pytest.mark.parametrize("kind", ["limited", "unavailable"])
def test_what_the_downstream_refuses_is_no_attempt(engine: Engine, kind: str) -> None:
    outcome = engine.run("bounced", {"kind": kind, "times": 1 if kind == "unavailable" else 5}, timeout=30)
    assert outcome.status == "completed", outcome.error
    (step,) = engine.history(outcome.key)
    assert step.attempt == 0
    assert set(outcome.state["attempts"]) == {0}
    assert [event.kind for event in step.events] == ["done"], "what bounces is not written"


def test_a_delay_adds_to_a_retry(engine: Engine) -> None:
    state = engine.run("delayed", timeout=20).state
    assert 0.199 <= state["waited"] < 5


def test_a_retry_looks_ahead_to_its_horizon(engine: Engine) -> None:
    state = engine.run("horizons", timeout=20).state
    assert (state["asked"], state["again"], state["attempt"]) == ([False, True], False, 1)


def test_every_attempt_is_recorded_with_its_error(engine: Engine) -> None:
    outcome = engine.run("by_attempt", timeout=20)
    (step,) = engine.history(outcome.key)
    assert [(event.kind, event.attempt) for event in step.events] == [
        ("retry", 0),
        ("retry", 1),
        ("retry", 2),
        ("done", 3),
    ]
    errors = [event.detail["error"] for event in step.events[:3]]
    assert [(error["code"], error["message"]) for error in errors] == [
        ("error", "first"),
        ("busy", "second"),
        ("error", "third"),
    ]


@pytest.mark.parametrize(
    ("name", "attempt"), [("on_type", 2), ("on_code", 3), ("not_on_type", 2), ("late", 1)]
)
def test_a_declared_retry_ends_where_it_says(engine: Engine, name: str, attempt: int) -> None:
    outcome = engine.run(f"by_attempt_{name}", timeout=20)
    (step,) = engine.history(outcome.key)
    assert step.attempt == attempt
    assert outcome.status == ("completed" if attempt == 3 else "failed")


def test_poison_is_routed_too(database_url: str) -> None:
    with Engine(app, database_url, workers=1) as engine:
        outcome = engine.run("poison", timeout=50)
        assert outcome.status == "completed"
        assert (set(outcome.state["rescued"]), outcome.state["rescued"]["code"]) == (MEMBERS, "poison")
        (step, *_) = engine.history(outcome.key)
        assert (step.attempt, [event.kind for event in step.events]) == (0, ["lost", "lost", "failed"])
