"""Attempts, delays and sleeps."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from penstock import App, Engine, Flow, Retry
from penstock.errors import Permanent, Retryable

app = App("retries")


@app.task
def succeed_at(flow: Flow, attempt: int, code: str = "busy") -> dict[str, Any]:
    flow["tried"] = [flow.attempt]
    if flow.attempt < attempt:
        raise Retryable(code, f"attempt {flow.attempt}")
    return {"attempts": flow.attempt + 1}


@app.task
def never(flow: Flow) -> None:
    raise Permanent("never", "not even again")


@app.task
def wrong(flow: Flow) -> None:
    raise KeyError("gone")


@app.task
def ask_again(flow: Flow, times: int) -> dict[str, Any]:
    done = flow.get("done", int, 0)
    if done < times:
        assert flow.retry(0.001, multiplier=2, max_interval=0.01)
        return {"done": done + 1, "total": 1, "kept": "yes"}
    return {"done": done, "total": 1}


@app.task
def past_the_horizon(flow: Flow) -> dict[str, bool]:
    return {"armed": flow.retry(60, give_up_after=1)}


@app.task
def later(flow: Flow, by: float) -> None:
    flow.delay(by)


@app.task
def stamp(flow: Flow) -> dict[str, float]:
    return {"stamped": flow.now.timestamp()}


@app.task
def nap(flow: Flow, gate: str, by: float) -> dict[str, Any]:
    runs = Path(gate)
    runs.write_text(str(int(runs.read_text() or 0) + 1 if runs.exists() else 1))
    flow["before"] = 1
    flow.sleep(timedelta(seconds=by))
    flow.sleep(by, key="second")
    return {"after": 1}


quick = Retry(3, 0.001, jitter=0)
app.graph("declared").node("try", succeed_at, retry=quick)
app.graph("declared_on").node("try", succeed_at, retry=Retry(3, 0.001, on=("busy", KeyError)))
app.graph("declared_not_on").node("try", succeed_at, retry=Retry(3, 0.001, not_on=("fatal",)))
app.graph("declared_on_a_base").node("try", wrong, retry=Retry(3, 0.001, on=(LookupError,)))
app.graph("declared_not_on_a_base").node("try", wrong, retry=Retry(3, 0.001, not_on=(Exception,)))
app.graph("never").node("try", never, retry=quick)
app.graph("wrong").node("try", wrong, retry=quick)
app.graph("routed").node("try", wrong, retry=quick).on_error("try", stamp)
app.graph("asked").chain(ask_again).reducer("total", "add")
app.graph("past").chain(past_the_horizon)
app.graph("later").chain(later, stamp)
app.graph("nap").chain(nap)


def kinds(engine: Engine, key: str) -> list[str]:
    (step, *_) = engine.history(key)
    return [event.kind for event in step.events]


def test_a_declared_retry_runs_again_until_it_succeeds(engine: Engine) -> None:
    outcome = engine.run("declared", {"attempt": 2}, timeout=10)
    assert outcome.state["attempts"] == 3
    assert outcome.state["tried"] == [2], "changes of a failed attempt are void"
    assert kinds(engine, outcome.key) == ["retry", "retry", "done"]
    (step,) = engine.history(outcome.key)
    assert step.attempt == 2


def test_a_declared_retry_ends_with_its_last_attempt(engine: Engine) -> None:
    outcome = engine.run("declared", {"attempt": 3}, timeout=10)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message) == ("busy", "attempt 2")
    assert kinds(engine, outcome.key) == ["retry", "retry", "failed"]


def test_a_declared_retry_acts_on_the_named_errors_only(engine: Engine) -> None:
    assert engine.run("declared_on", {"attempt": 1}, timeout=10).status == "completed"
    assert engine.run("declared_on", {"attempt": 1, "code": "other"}, timeout=10).status == "failed"
    assert engine.run("declared_not_on", {"attempt": 1, "code": "other"}, timeout=10).status == "completed"
    assert engine.run("declared_not_on", {"attempt": 1, "code": "fatal"}, timeout=10).status == "failed"


def test_a_declared_retry_knows_an_exception_by_its_bases(engine: Engine) -> None:
    assert kinds(engine, engine.run("declared_on_a_base", timeout=10).key) == ["retry", "retry", "failed"]
    assert kinds(engine, engine.run("declared_not_on_a_base", timeout=10).key) == ["failed"]


def test_a_permanent_error_is_never_retried_and_any_other_is(engine: Engine) -> None:
    assert kinds(engine, engine.run("never", timeout=10).key) == ["failed"]
    assert kinds(engine, engine.run("wrong", timeout=10).key) == ["retry", "retry", "failed"]


def test_retries_act_before_the_error_is_routed(engine: Engine) -> None:
    outcome = engine.run("routed", timeout=10)
    assert outcome.status == "completed"
    assert kinds(engine, outcome.key) == ["retry", "retry", "failed"]


def test_a_task_that_asks_to_run_again_keeps_its_changes_and_contributes_once(engine: Engine) -> None:
    outcome = engine.run("asked", {"times": 3, "total": 10}, timeout=10)
    assert outcome.state == {"times": 3, "done": 3, "kept": "yes", "total": 11}
    assert kinds(engine, outcome.key) == ["retry", "retry", "retry", "done"]


def test_a_retry_past_its_horizon_is_not_armed(engine: Engine) -> None:
    assert engine.run("past", timeout=10).state == {"armed": False}


def test_a_delay_puts_off_the_successors(engine: Engine) -> None:
    outcome = engine.run("later", {"by": 0.1}, timeout=10)
    first, second = engine.history(outcome.key)
    assert first.finished_at is not None
    assert second.finished_at is not None
    waited = second.finished_at - first.finished_at
    assert timedelta(milliseconds=99) <= waited < timedelta(seconds=5)


def test_a_sleep_parks_the_step_and_runs_it_again(engine: Engine, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    outcome = engine.run("nap", {"gate": str(runs), "by": 0.02}, timeout=10)
    assert outcome.state["before"] == outcome.state["after"] == 1
    assert runs.read_text() == "3"
    assert kinds(engine, outcome.key) == ["parked", "resolved", "parked", "resolved", "done"]
