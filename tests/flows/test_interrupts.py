"""Questions to somebody outside, and the answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock import App, Engine, Flow
from penstock.errors import Conflict, InterruptTimeout, Invalid
from tests.support.waiting import eventually

app = App("interrupts")


@app.task
def ask(flow: Flow, question: str = "well?") -> dict[str, Any]:
    flow["asked"] = flow.get("asked", int, 0) + 1
    return {"answer": flow.interrupt({"question": question})}


@app.task
def ask_twice(flow: Flow) -> dict[str, Any]:
    first = flow.interrupt("first")
    second = flow.interrupt("second", key="named")
    return {"answers": [first, second]}


@app.task
def ask_in_time(flow: Flow, limit: float) -> dict[str, Any]:
    try:
        return {"answer": flow.interrupt("quick!", timeout=limit)}
    except InterruptTimeout as late:
        return {"late": late.code}


@app.task
def ask_impatiently(flow: Flow) -> None:
    flow.interrupt("quick!", timeout=0.01)


@app.task
def swallow(flow: Flow) -> dict[str, Any]:
    try:
        flow.interrupt("well?")
    except BaseException:  # noqa: BLE001 - what a careless author writes
        return {"swallowed": True}
    return {}


@app.task
def ask_each(flow: Flow, item: str) -> dict[str, Any]:
    return {"answers": [flow.interrupt(item)]}


@app.task
def nothing(flow: Flow) -> None: ...


app.graph("ask").chain(ask)
app.graph("twice").chain(ask_twice)
app.graph("in_time").chain(ask_in_time)
app.graph("impatient").chain(ask_impatiently)
app.graph("swallow").chain(swallow)
app.graph("side").fan_out(nothing, ask, "aside").node("aside", nothing)
app.graph("each").chain(nothing).for_each(nothing, ask_each, over="items").node("join", nothing).edge(
    ask_each, "join"
).fan_in("join").reducer("answers", "append")


def start(engine: Engine, workflow: str, **state: Any) -> str:
    key = engine.create(workflow, state)
    assert engine.wait(key, timeout=10).status == "interrupted"
    return key


def test_wait_returns_at_a_question_and_resume_answers_it(engine: Engine) -> None:
    key = start(engine, "ask", question="who?")
    asked = engine.snapshot(key)
    assert asked.is_stopped
    assert not asked.is_finished
    (question,) = asked.interrupts
    assert (question.flow_key, question.step_key, question.node) == (key, f"{key}/1", "ask")
    assert (question.kind, question.key, question.payload) == ("interrupt", None, {"question": "who?"})
    assert question.expires_at is None
    assert datetime.now(UTC) - question.created_at < timedelta(minutes=1)

    engine.resume(key, {"name": "ada", "null": None})
    outcome = engine.wait(key, timeout=10)
    assert outcome.status == "completed"
    assert outcome.state["answer"] == {"name": "ada", "null": None}
    assert "name" not in outcome.state, "an answer is not merged"
    assert outcome.state["asked"] == 2, "what was written before the question is kept"
    assert outcome.interrupts == ()
    (step,) = engine.history(key)
    assert [event.kind for event in step.events] == ["parked", "resolved", "done"]


@pytest.mark.parametrize("answer", [None, False, 0, "", [], {}, 10**30, "\0", "ü"])
def test_any_json_is_an_answer(engine: Engine, answer: Any) -> None:
    key = start(engine, "ask")
    engine.resume(key, answer)
    state = engine.wait(key, timeout=10).state
    assert state.get("answer") == answer


def test_a_question_is_answered_once(engine: Engine) -> None:
    key = start(engine, "twice")
    (first,) = engine.snapshot(key).interrupts
    engine.resume(key, 1, interrupt_id=first.interrupt_id)
    with pytest.raises(Conflict):
        engine.resume(key, 2, interrupt_id=first.interrupt_id)
    assert engine.wait(key, timeout=10).status == "interrupted"
    eventually(lambda: engine.snapshot(key).interrupts, what="the second question")
    (second,) = engine.snapshot(key).interrupts
    assert (second.key, second.payload) == ("named", "second")
    engine.resume(key, 2)
    assert engine.wait(key, timeout=10).state["answers"] == [1, 2]
    with pytest.raises(Conflict):
        engine.resume(key, 3)


def test_the_oldest_of_several_questions_is_answered_first_unless_one_is_named(engine: Engine) -> None:
    key = engine.create("each", {"items": ["a", "b", "c", "d"]})
    eventually(lambda: len(engine.snapshot(key).interrupts) == 4, what="four questions")
    questions = {one.payload: one.interrupt_id for one in engine.snapshot(key).interrupts}
    engine.resume(key, "named", interrupt_id=questions["c"])
    oldest = engine.snapshot(key).interrupts[0]
    engine.resume(key, "oldest")
    assert oldest.interrupt_id not in {one.interrupt_id for one in engine.snapshot(key).interrupts}
    assert engine.poll(key).status == "interrupted"
    for one in engine.snapshot(key).interrupts:
        engine.resume(key, "rest", interrupt_id=one.interrupt_id)
    answers = engine.wait(key, timeout=10).state["answers"]
    assert answers == [
        "named" if item == "c" else "oldest" if item == oldest.payload else "rest" for item in "abcd"
    ]


def test_other_branches_run_on_beside_a_question(engine: Engine) -> None:
    key = start(engine, "side")
    eventually(
        lambda: sorted(step.status for step in engine.history(key)) == ["completed", "completed", "parked"],
        what="the other branch to end",
    )
    engine.resume(key, 1)
    assert engine.wait(key, timeout=10).status == "completed"


def test_a_question_lapses(engine: Engine) -> None:
    key = engine.create("in_time", {"limit": 0.05})
    eventually(lambda: engine.poll(key).status == "completed", what="the question to lapse")
    assert engine.poll(key).state["late"] == "interrupt_timeout"
    with pytest.raises(Conflict):
        engine.resume(key, 1)
    impatient = engine.create("impatient")
    eventually(lambda: engine.poll(impatient).is_finished, what="the task to fail")
    error = engine.poll(impatient).error
    assert error is not None
    assert error.code == "interrupt_timeout"


def test_an_answer_in_time_is_an_answer(engine: Engine) -> None:
    key = start(engine, "in_time", limit=60)
    (question,) = engine.snapshot(key).interrupts
    assert question.expires_at is not None
    assert question.expires_at - question.created_at == timedelta(minutes=1)
    engine.resume(key, "here")
    assert engine.wait(key, timeout=10).state["answer"] == "here"


def test_a_task_that_swallows_its_park_fails(engine: Engine) -> None:
    outcome = engine.run("swallow", timeout=10)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert "made a call that has no answer yet" in outcome.error.message
    assert "swallowed" not in outcome.state


@app.task
async def ask_side_by_side(flow: Flow) -> dict[str, Any]:
    async def ask(question: str) -> Any:
        return flow.interrupt(question, timeout=60)

    return {"answers": await asyncio.gather(ask("a"), ask("b"), return_exceptions=True)}


app.graph("side_by_side").chain(ask_side_by_side)


def test_questions_gathered_with_their_exceptions_are_all_asked_and_waited_for(engine: Engine) -> None:
    key = start(engine, "side_by_side")
    assert [question.payload for question in engine.snapshot(key).interrupts] == ["a", "b"]
    engine.resume(key, 1)
    engine.resume(key, 2)
    assert engine.wait(key, timeout=10).state["answers"] == [1, 2]


def test_a_question_that_lapses_while_somebody_waits_only_delays_the_wait(engine: Engine) -> None:
    for _ in range(10):
        assert engine.run("in_time", {"limit": 0.0}, timeout=10).status in ("completed", "interrupted")


def test_an_answer_that_is_no_json_is_refused(engine: Engine) -> None:
    with pytest.raises(Invalid):
        engine.resume(start(engine, "ask"), float("nan"))


@app.task
def ask_and_log(flow: Flow) -> None:
    """Contributes, asks twice, and is run from the top each time."""
    flow["answers"] = ["asked"]
    flow.interrupt("first")
    flow.interrupt("second")


app.graph("logged").chain(ask_and_log).reducer("answers", "append")


def test_what_a_task_contributes_before_it_parks_counts_once_however_often_it_runs(engine: Engine) -> None:
    key = engine.create("logged", {"answers": ["before"]})
    for _ in range(2):
        assert engine.wait(key, timeout=10).status == "interrupted"
        engine.resume(key, True)
    outcome = engine.wait(key, timeout=10)
    assert outcome.state["answers"] == ["before", "asked"]
