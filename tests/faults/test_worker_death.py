"""Workers that are killed, and tasks that kill them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from penstock import Engine
from tests.faults.app import EXPECTED_COUNT, EXPECTED_TRAIL, PARTS
from tests.support.database import events, finished_steps
from tests.support.ledger import Ledger
from tests.support.waiting import eventually

LIMIT_S = 0.2


def workers_of(engine: Engine) -> list[int]:
    return [process.pid for process in engine.processes() if process.kind == "worker"]


def starts_of(ledger: Ledger, flow_key: str) -> list[dict[str, Any]]:
    own = f"{flow_key}/"
    return [one for one in ledger.entries() if one["step"].startswith(own) and one["event"] == "start"]


def wait_for_starts(ledger: Ledger, flow_key: str, number: int) -> list[dict[str, Any]]:
    def enough() -> list[dict[str, Any]]:
        starts = starts_of(ledger, flow_key)
        return starts if len(starts) >= number else []

    return eventually(enough, what=f"start {number} of {flow_key}")


def test_a_step_of_a_killed_worker_runs_again_at_once_and_others_are_untouched(
    engine: Engine, database: Path, ledger: Ledger, gate: Path
) -> None:
    state = {"ledger": str(ledger.path), "gate": str(gate)}
    struck, spared = engine.create_many("hold", [state, state])
    victim = wait_for_starts(ledger, struck, 1)[0]["pid"]
    bystander = wait_for_starts(ledger, spared, 1)[0]["pid"]
    assert victim != bystander

    killed_at = time.time()
    os.kill(victim, signal.SIGKILL)
    again = wait_for_starts(ledger, struck, 2)[1]
    assert again["at"] - killed_at < LIMIT_S
    assert again["pid"] not in (victim, bystander)

    gate.touch()
    outcomes = [engine.wait(key, timeout=20) for key in (struck, spared)]
    assert [outcome.status for outcome in outcomes] == ["completed", "completed"]
    assert [outcome.state["count"] for outcome in outcomes] == [1, 1]
    assert len(starts_of(ledger, struck)) == 2
    assert [one["pid"] for one in starts_of(ledger, spared)] == [bystander]
    assert events(database, "lost") == [(struck, 1, "lost")]


def test_every_worker_may_be_killed_again_and_again_under_load(
    engine: Engine, database: Path, ledger: Ledger
) -> None:
    state = {"ledger": str(ledger.path), "parts": list(range(PARTS))}
    keys = engine.create_many("counted", [state] * 60)
    for entries in (100, 250, 400):
        ledger.wait_for(entries)
        finished = finished_steps(database)
        noted = len(ledger.entries())
        for pid in workers_of(engine):
            os.kill(pid, signal.SIGKILL)
        ledger.wait_for(noted + 40)
        again = {one["step"] for one in ledger.entries()[noted:] if one["event"] == "start"}
        assert not finished & again
    for key in keys:
        outcome = engine.wait(key, timeout=30)
        assert (outcome.status, outcome.error) == ("completed", None)
        assert outcome.state["count"] == EXPECTED_COUNT
        assert outcome.state["trail"] == EXPECTED_TRAIL


def test_a_poison_task_fails_its_step_after_three_tries_and_nothing_else(
    engine: Engine, ledger: Ledger, gate: Path
) -> None:
    state = {"ledger": str(ledger.path), "gate": str(gate), "parts": list(range(PARTS))}
    held = engine.create("hold", state)
    wait_for_starts(ledger, held, 1)
    beside = engine.create_many("counted", [state] * 20)
    poisoned = engine.run("poison", state, timeout=20)

    assert poisoned.status == "failed"
    assert poisoned.error is not None
    assert poisoned.error.code == "poison"
    assert "9" in poisoned.error.message
    assert (poisoned.error.node, poisoned.error.step_key) == ("poison", f"{poisoned.key}/1")
    assert len(starts_of(ledger, poisoned.key)) == 3
    for key in beside:
        outcome = engine.wait(key, timeout=20)
        assert (outcome.status, outcome.state["count"]) == ("completed", EXPECTED_COUNT)
    gate.touch()
    assert engine.wait(held, timeout=20).status == "completed"
    assert len(starts_of(ledger, held)) == 1, "the step that ran beside the poison was not disturbed"
    # The pool lives on, in full number.
    eventually(lambda: len(workers_of(engine)) == 2, what="both workers to be there again")
    assert engine.run("counted", state, timeout=20).status == "completed"


def test_a_poisoned_step_is_routed_to_its_handler(engine: Engine, ledger: Ledger) -> None:
    outcome = engine.run("poison_routed", {"ledger": str(ledger.path)}, timeout=20)
    assert (outcome.status, outcome.state["code"]) == ("completed", "poison")


def test_steps_beside_a_poison_in_one_worker_are_not_counted_as_lost_alone(
    database_url: str, ledger: Ledger, gate: Path
) -> None:
    """With two threads a worker holds the poison and another step, which survives every death."""
    from tests.faults.app import app

    state = {"ledger": str(ledger.path), "gate": str(gate)}
    with Engine(app, database_url, workers=1, threads=2) as engine:
        held = engine.create("hold", state)
        wait_for_starts(ledger, held, 1)
        poisoned = engine.create("poison", state)
        wait_for_starts(ledger, poisoned, 1)
        gate.touch()
        assert engine.wait(held, timeout=20).status == "completed"
        outcome = engine.wait(poisoned, timeout=20)
        assert outcome.error is not None
        assert outcome.error.code == "poison"
