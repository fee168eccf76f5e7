"""A flow that creates ever more steps is stopped."""

from __future__ import annotations

import pytest

from penstock import App, Engine, Flow
from penstock.errors import Invalid

app = App("max_steps")


@app.task
def lap(n: int) -> dict[str, int]:
    return {"n": n + 1}


@app.task
def rescue(flow: Flow) -> dict[str, bool]:
    return {"rescued": True}


app.graph("endless").chain(lap).switch(lap, {"n < 0": "end"}, default="lap").node("end", rescue)
app.graph("wide").node("source", rescue).for_each("source", lap, over="items", bind="n").node(
    "join", rescue
).edge(lap, "join").fan_in("join")


def test_the_step_that_would_exceed_max_steps_fails(database_url: str) -> None:
    with Engine(app, database_url, max_steps=10) as engine:
        outcome = engine.run("endless", {"n": 0}, timeout=10)
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.node, outcome.error.retryable) == (
            "max_steps",
            "lap",
            False,
        )
        assert "10" in outcome.error.message
        assert outcome.error.step_key == f"{outcome.key}/10"
        assert outcome.state["n"] == 9, "its changes are void"
        assert len(engine.history(outcome.key)) == 10
        outcome = engine.run("wide", {"items": list(range(9))}, timeout=10)
        assert outcome.status == "failed", "the join would be the eleventh"
        outcome = engine.run("wide", {"items": list(range(8))}, timeout=10)
        assert outcome.status == "completed"


def test_an_engine_with_another_bound_goes_by_its_own(database_url: str) -> None:
    with Engine(app, database_url, max_steps=3) as engine:
        key = engine.create("endless", {"n": 0}, hold=True)
    with Engine(app, database_url, max_steps=5) as engine:
        engine.unpause(key)
        assert engine.wait(key, timeout=10).state["n"] == 4


@pytest.mark.parametrize("max_steps", [0, -1, 1.5, True, "many", 2**70])
def test_a_bound_that_is_none_is_refused(database_url: str, max_steps: object) -> None:
    with pytest.raises(Invalid, match="max_steps"):
        Engine(app, database_url, max_steps=max_steps)  # type: ignore[arg-type]
