"""The carrier: changes, signals and calls of one attempt."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from penstock.encoding import decode, encode
from penstock.errors import InterruptTimeout, Invalid, InvalidState, SubgraphFailed
from penstock.flow import Attempt, Flow, current_flow
from penstock.workers.attempts import run_attempt
from penstock.workers.tasks import Task

DONE, ERROR, PARKED, RETRY = range(4)
REDUCERS = {"log": "append", "n": "add"}


def carrier(
    state: dict[str, Any] | None = None,
    *,
    changes: str = "",
    calls: list[dict[str, Any]] | None = None,
    attempt: int = 0,
    step_created_at_ms: int | None = None,
) -> Flow:
    created = int(time.time() * 1000) if step_created_at_ms is None else step_created_at_ms
    return Flow(
        Attempt(
            1, 9, 0, attempt, 7, 5_000, created, 60_000, "0-flow", "node", "task", '{"tenant":"a"}',
            json.dumps(state or {}), changes, "" if calls is None else json.dumps(calls),
        ),
        REDUCERS,
    )  # fmt: skip


def run(task: Callable[[Flow], Any], flow: Flow) -> tuple[int, dict[str, Any], dict[str, Any]]:
    _, outcome, _, changes, meta = run_attempt(flow, Task(False, task))
    return outcome, decode(changes or "{}"), decode(meta or "{}")


# -- state --


def test_changes_are_recorded_field_by_field() -> None:
    def task(flow: Flow) -> dict[str, Any]:
        flow["a"] = 1
        flow["a"] = 2
        del flow["gone"]
        flow["also_gone"] = None
        flow["log"] = ["x"]
        flow.overwrite("n", 5)
        assert dict(flow) == {"a": 2, "kept": 1, "log": ["old", "x"], "n": 5}
        return {"b": 3}

    outcome, changes, _ = run(task, carrier({"gone": 1, "kept": 1, "also_gone": 2, "log": ["old"], "n": 1}))
    assert outcome == DONE
    assert changes == {
        "set": {"a": 2, "b": 3, "log": ["x"]},
        "overwrite": {"n": 5},
        "del": ["gone", "also_gone"],
    }


def test_a_contribution_replaces_the_earlier_one_of_the_same_step() -> None:
    flow = carrier({"log": [1]}, changes='{"add":{"log":[2]},"set":{"a":1},"del":["b"]}')
    assert flow.as_dict() == {"log": [1, 2], "a": 1}
    flow["log"] = [3]
    assert flow["log"] == [1, 3]
    flow["log"] = None
    assert flow["log"] == [1]


def test_reduced_fields_are_neither_deleted_nor_cleared() -> None:
    flow = carrier({"log": [1], "a": 1})
    with pytest.raises(InvalidState, match="append"):
        del flow["log"]
    with pytest.raises(InvalidState, match="overwrite"):
        flow.clear()
    assert "a" in flow
    flow.overwrite("log", None)
    assert "log" not in flow
    flow.clear()
    assert len(flow) == 0


def test_reading_checks_the_type_that_is_asked_for() -> None:
    flow = carrier({"n": 1, "text": "a"})
    assert flow.get("n", int) == 1
    assert flow.get("missing") is None
    assert flow.get("missing", int, 4) == 4
    with pytest.raises(InvalidState, match="'text' is declared as int"):
        flow.get("text", int)
    with pytest.raises(KeyError):
        flow["missing"]
    with pytest.raises(KeyError):
        del flow["missing"]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "isoformat"),
        (date(2026, 1, 1), "isoformat"),
        (timedelta(1), "total_seconds"),
        (UUID(int=1), r"str\(value\)"),
        (Decimal(1), "str"),
        ({1, 2}, "list"),
        (b"x", "base64"),
        (float("nan"), "NaN"),
        ({"a": [float("inf")]}, "NaN"),
        (object(), "write a dict"),
        ({(1, 2): 3}, "keys"),
    ],
)
def test_what_has_no_form_in_json_is_refused_by_its_field(value: Any, hint: str) -> None:
    with pytest.raises(InvalidState, match=f"(?s)'when'.*{hint}"):
        carrier()["when"] = value


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidState, match="'loop'"):
        carrier()["loop"] = loop


@pytest.mark.parametrize("digits", [1, 600, 4300, 4301, 9999, 20_000])
def test_integers_are_exact_at_any_size(digits: int) -> None:
    value = {"a": [10**digits - 1, -(10**digits), {"é": 10**digits}], "b": 1.5, "c": None, "d": True}
    assert decode(encode(value, "it")) == value


def test_any_string_is_storable() -> None:
    flow = carrier()
    flow["s"] = "\x00 \ud800 é"
    assert flow["s"] == "\x00 \ud800 é"


# -- signals --


def test_goto_and_delay_travel_with_the_result() -> None:
    def task(flow: Flow) -> None:
        flow.goto("other")
        flow.delay(timedelta(seconds=1.5))

    assert run(task, carrier()) == (DONE, {}, {"goto": "other", "delay_ms": 1500})


def test_asking_to_go_and_to_run_again_is_an_error() -> None:
    def task(flow: Flow) -> None:
        flow.goto("other")
        assert flow.retry(1)

    outcome, _, meta = run(task, carrier())
    assert (outcome, meta["code"]) == (ERROR, "competing_signals")


@pytest.mark.parametrize(
    ("attempt", "options", "expected_ms"),
    [
        (0, {}, 1000),
        (5, {}, 1000),
        (0, {"multiplier": 2}, 1000),
        (3, {"multiplier": 2}, 8000),
        (3, {"multiplier": 0}, 1000),
        (4, {"multiplier": 2, "max_interval": 10}, 10_000),
        (100_000, {"multiplier": 2, "max_interval": 10}, 10_000),
        (2, {"multiplier": 0.5}, 250),
    ],
)
def test_the_wait_grows_and_is_capped(attempt: int, options: dict[str, Any], expected_ms: int) -> None:
    def task(flow: Flow) -> None:
        assert flow.retry(1, **options)
        flow["seen"] = True

    assert run(task, carrier(attempt=attempt)) == (RETRY, {"set": {"seen": True}}, {"delay_ms": expected_ms})


def test_a_wait_that_would_pass_the_horizon_is_refused_beforehand() -> None:
    def task(flow: Flow) -> dict[str, bool]:
        return {"armed": flow.retry(10, give_up_after=15)}

    now_ms = int(time.time() * 1000)
    assert run(task, carrier(step_created_at_ms=now_ms - 4_000))[0] == RETRY
    assert run(task, carrier(step_created_at_ms=now_ms - 6_000)) == (DONE, {"set": {"armed": False}}, {})


def test_an_error_voids_changes_and_signals() -> None:
    def task(flow: Flow) -> None:
        flow["a"] = 1
        flow.retry(1)
        raise ValueError("no")

    outcome, changes, meta = run(task, carrier())
    assert (outcome, changes, meta["type"], meta["message"]) == (ERROR, {}, "ValueError", "no")


# -- calls --


def test_an_unanswered_call_parks_with_the_changes_before_it() -> None:
    def task(flow: Flow) -> None:
        flow["before"] = 1
        flow.goto("dropped")
        flow.interrupt({"question": "?"}, key="k", timeout=2)
        flow["after"] = 1

    outcome, changes, meta = run(task, carrier())
    assert (outcome, changes) == (PARKED, {"set": {"before": 1}})
    call = {"kind": "interrupt", "key": "k", "payload": {"question": "?"}, "timeout_ms": 2000}
    assert meta == {"calls": [call]}


@pytest.mark.parametrize("times", [1, 3])
def test_a_task_that_swallows_a_park_fails(times: int) -> None:
    def task(flow: Flow) -> dict[str, int]:
        for _ in range(times):
            try:
                flow.sleep(1)
            except BaseException:  # noqa: BLE001 - what a careless task does
                flow["after"] = 1
        return {"returned": 1}

    outcome, changes, meta = run(task, carrier())
    assert (outcome, changes, meta["code"], meta["class"]) == (ERROR, {}, "error", "permanent")
    assert "did not let it end the attempt" in meta["message"]


@pytest.mark.parametrize("others", [[], [asyncio.CancelledError()], [ValueError("no")]])
def test_a_park_that_becomes_another_error_is_still_a_park(others: list[BaseException]) -> None:
    def task(flow: Flow) -> None:
        try:
            flow.sleep(1)
        except BaseException as park:
            if others:
                raise BaseExceptionGroup("together", [park, *others]) from None
            raise ValueError("mine") from park

    assert run(task, carrier())[0] == PARKED


def test_answers_are_found_by_key_and_else_by_place() -> None:
    answered = [
        {"kind": "interrupt", "key": "k", "answer": "keyed"},
        {"kind": "interrupt", "answer": "first"},
        {"kind": "signal", "target": "paid", "answer": None},
        {"kind": "sleep", "answer": None},
    ]

    def task(flow: Flow) -> dict[str, Any]:
        found = [flow.interrupt(), flow.wait_signal("paid"), flow.interrupt(key="k"), flow.interrupt(key="k")]
        flow.sleep(5)
        return {"found": found}

    outcome, changes, _ = run(task, carrier(calls=answered))
    assert (outcome, changes) == (DONE, {"set": {"found": ["first", None, "keyed", "keyed"]}})


def test_a_call_is_found_at_its_place_whatever_a_retry_forgot_before_it() -> None:
    answered = [
        {"kind": "interrupt", "at": 0, "answer": "first"},
        {"kind": "interrupt", "at": 2, "answer": "third"},
    ]

    def task(flow: Flow) -> None:
        assert flow.interrupt() == "first"
        try:
            flow.interrupt("again")
        finally:
            flow["unreached"] = True

    outcome, _, meta = run(task, carrier(calls=answered))
    assert (outcome, meta) == (PARKED, {"calls": [{"kind": "interrupt", "at": 1, "payload": "again"}]})


def test_another_call_at_an_answered_place_is_an_error_even_when_swallowed() -> None:
    def task(flow: Flow) -> None:
        try:
            flow.subgraph("child")
        except Exception:  # noqa: BLE001 - what a careless task does
            return

    outcome, _, meta = run(task, carrier(calls=[{"kind": "sleep", "answer": None}]))
    assert (outcome, meta["code"]) == (ERROR, "call_order")
    assert "subgraph('child')" in meta["message"]


def test_failed_answers_are_raised() -> None:
    answered = [
        {
            "kind": "subgraph",
            "target": "c",
            "error": {"code": "no_card", "message": "gone", "data": {"a": 1}},
        },
        {"kind": "interrupt", "error": {"code": "interrupt_timeout", "message": ""}},
    ]

    def task(flow: Flow) -> dict[str, Any]:
        with pytest.raises(SubgraphFailed, match="gone") as caught:
            flow.subgraph("c")
        with pytest.raises(InterruptTimeout):
            flow.interrupt()
        return {"code": caught.value.code, "data": caught.value.data}

    outcome, changes, _ = run(task, carrier(calls=answered))
    assert (outcome, changes) == (DONE, {"set": {"code": "no_card", "data": {"a": 1}}})


# -- identity --


def test_the_carrier_knows_where_it_is() -> None:
    flow = carrier(attempt=2)
    assert (flow.key, flow.step_key, flow.node, flow.attempt) == ("0-flow", "0-flow/7", "node", 2)
    assert flow.baggage == {"tenant": "a"}
    assert flow.created_at == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert flow.deadline is None, "its time has not begun"
    assert flow.now.tzinfo is not None
    assert not flow.is_cancelled


def test_the_time_budget_begins_when_the_task_does() -> None:
    def task(flow: Flow) -> None:
        assert flow.deadline is not None
        assert timedelta(seconds=59) < flow.deadline - flow.now <= timedelta(seconds=60)

    assert run(task, carrier())[0] == DONE


def test_the_current_flow_is_found_in_a_task_and_nowhere_else() -> None:
    flow = carrier()
    assert run(lambda _: {"same": current_flow() is flow}, flow)[1] == {"set": {"same": True}}
    with pytest.raises(Invalid, match="no task runs here"):
        current_flow()


def test_a_carrier_is_closed_when_its_attempt_has_ended() -> None:
    flow = carrier()
    run(lambda _: None, flow)
    with pytest.raises(Invalid, match="has ended"):
        flow["late"] = 1


@pytest.mark.parametrize("wrong", ["1", None, True, float("nan")])
def test_a_duration_is_a_timedelta_or_seconds(wrong: Any) -> None:
    with pytest.raises(Invalid):
        carrier().delay(wrong)
