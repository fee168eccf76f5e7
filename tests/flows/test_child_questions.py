"""Questions in flows that other flows run: asked below, answered through the root."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import App, Client, Engine, Flow, Outcome
from penstock.errors import Conflict, Invalid, SubgraphFailed
from tests.support.waiting import eventually

app = App("child_questions")


@app.task
def ask(flow: Flow, question: str = "well?") -> dict[str, Any]:
    return {"answer": flow.interrupt(question)}


@app.task
def ask_in_time(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt("quick!", timeout=0.05)}


@app.task
def ask_three_at_once(flow: Flow) -> dict[str, Any]:
    return {"answers": [flow.interrupt(at, key=f"k{at}") for at in range(3)]}


@app.task
def down(flow: Flow, depth: int) -> dict[str, Any]:
    if depth == 0:
        return {"answer": flow.interrupt("at the bottom")}
    return {"answer": flow.subgraph("down", {"depth": depth - 1})["answer"], "depth": depth}


@app.task
def ask_below(flow: Flow, item: str) -> dict[str, Any]:
    return {"answers": [flow.subgraph("ask", {"question": item})["answer"]]}


@app.task
def catch(flow: Flow) -> dict[str, Any]:
    try:
        return {"child": flow.subgraph("ask_in_time")}
    except SubgraphFailed as failure:
        return {"caught": failure.code}


@app.task
def nothing(flow: Flow) -> None: ...


app.graph("ask").chain(ask)
app.graph("ask_in_time").chain(ask_in_time)
app.graph("three").chain(ask_three_at_once)
app.graph("down").chain(down)
app.graph("catch").chain(catch)
app.graph("each").chain(nothing).for_each(nothing, ask_below, over="items").node("join", nothing).edge(
    ask_below, "join"
).fan_in("join").reducer("answers", "append")
app.graph("both").fan_out(nothing, ask, "lower").node("lower", down)


def asking(engine: Engine, key: str, number: int = 1) -> Outcome:
    """Wait until so many questions of a flow are open."""
    eventually(lambda: len(engine.snapshot(key).interrupts) == number, what=f"{number} questions")
    return engine.wait(key, timeout=10)


def test_a_question_ten_flows_down_is_asked_and_answered_at_the_root(engine: Engine) -> None:
    key = engine.create("down", {"depth": 10})
    outcome = engine.wait(key, timeout=20)
    assert outcome.status == "interrupted"
    (question,) = outcome.interrupts
    assert question.payload == "at the bottom"
    assert question.flow_key != key
    below = list(engine.list(children=True, status="interrupted", limit=1_000))
    assert len(below) >= 11, "every flow on the way is interrupted"
    with pytest.raises(Invalid, match=key):
        engine.resume(question.flow_key, 1)
    engine.resume(key, "found")
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.state["answer"]) == ("completed", "found")


def test_many_questions_below_are_listed_oldest_first_and_answered_by_id(engine: Engine) -> None:
    items = ["a", "b", "c", "d", "e"]
    key = engine.create("each", {"items": items})
    outcome = asking(engine, key, 5)
    created = [question.created_at for question in outcome.interrupts]
    assert created == sorted(created)
    for question in reversed(outcome.interrupts):
        assert engine.poll(key).status == "interrupted"
        engine.resume(key, question.payload, interrupt_id=question.interrupt_id)
    outcome = engine.wait(key, timeout=10)
    assert (outcome.status, outcome.state["answers"]) == ("completed", items)


def test_without_an_id_the_oldest_of_the_tree_is_answered(engine: Engine) -> None:
    key = engine.create("each", {"items": ["a", "b", "c"]})
    open_now = list(asking(engine, key, 3).interrupts)
    for left in (2, 1, 0):
        oldest = open_now.pop(0)
        engine.resume(key, oldest.payload)
        assert len(engine.snapshot(key).interrupts) == left
        assert oldest not in engine.snapshot(key).interrupts
    assert engine.wait(key, timeout=10).state["answers"] == ["a", "b", "c"]


def test_questions_of_the_root_and_below_stand_side_by_side(engine: Engine) -> None:
    key = engine.create("both", {"depth": 2, "question": "above"})
    outcome = asking(engine, key, 2)
    by_payload = {question.payload: question for question in outcome.interrupts}
    engine.resume(key, "up", interrupt_id=by_payload["above"].interrupt_id)
    outcome = engine.poll(key)
    assert (outcome.status, len(outcome.interrupts)) == ("interrupted", 1)
    engine.resume(key, "down")
    assert engine.wait(key, timeout=10).status == "completed"


def test_a_child_shows_its_own_questions_and_those_below_it(engine: Engine) -> None:
    key = engine.create("each", {"items": ["a", "b"]})
    for question in asking(engine, key, 2).interrupts:
        outcome = engine.snapshot(question.flow_key)
        assert (outcome.status, outcome.interrupts) == ("interrupted", (question,))
    engine.cancel(key)
    deep = engine.create("down", {"depth": 2})
    (question,) = asking(engine, deep).interrupts
    middle = [flow.key for flow in engine.list(children=True, limit=1_000) if flow.parent_key == deep]
    assert engine.snapshot(middle[0]).interrupts == (question,)
    engine.cancel(deep)


def test_a_question_below_that_lapses_lets_the_root_run_on(engine: Engine) -> None:
    key = engine.create("catch")
    outcome = eventually(lambda: (o := engine.poll(key)).is_finished and o, what="the lapse")
    assert outcome.state == {"caught": "interrupt_timeout"}


def test_a_cancelled_tree_asks_nothing_any_more(engine: Engine) -> None:
    key = engine.create("each", {"items": ["a", "b"]})
    outcome = asking(engine, key, 2)
    engine.cancel(key)
    assert engine.wait(key, timeout=10).status == "cancelled"
    ids = {question.interrupt_id for question in outcome.interrupts}
    eventually(
        lambda: not ids & {question.interrupt_id for question in engine.interrupts(limit=1_000)},
        what="the questions to go",
    )
    with pytest.raises(Conflict, match="cancelled"):
        engine.resume(key, 1)


def test_a_breakpoint_below_interrupts_the_root_and_takes_no_answer(engine: Engine) -> None:
    key = engine.create("each", {"items": ["a"]}, hold=True)
    engine.break_before(key, "ask")
    engine.unpause(key)
    (held,) = asking(engine, key).interrupts
    assert (held.kind, held.node) == ("breakpoint", "ask")
    for interrupt_id in (None, held.interrupt_id):
        with pytest.raises(Conflict, match="resume_break"):
            engine.resume(key, 1, interrupt_id=interrupt_id)
    engine.resume_break(key)
    eventually(
        lambda: [one.kind for one in engine.snapshot(key).interrupts] == ["interrupt"], what="the question"
    )
    engine.resume(key, "on")
    assert engine.wait(key, timeout=10).state["answers"] == ["on"]


def test_questions_that_one_step_asks_together_keep_their_order(engine: Engine) -> None:
    key = engine.create("three")
    for at in range(3):
        outcome = engine.wait(key, timeout=10)
        assert outcome.interrupts[0].payload == at
        engine.resume(key, at * 10)
    assert engine.wait(key, timeout=10).state["answers"] == [0, 10, 20]


def test_all_open_questions_are_listed_over_all_flows(database_url: str) -> None:
    with Engine(app, database_url) as engine, Client(None, database_url) as client:
        flows = [engine.create("ask", {"question": f"q{at}"}) for at in range(5)]
        named = engine.create("three")
        tree = engine.create("each", {"items": ["a", "b"]})
        eventually(lambda: len(engine.interrupts(limit=1_000)) == 8, what="eight questions")
        assert {one.flow_key for one in client.interrupts(workflow="ask").items} >= set(flows)
        (first,) = client.interrupts(key="k0").items
        assert (first.flow_key, first.node, first.payload) == (named, "ask_three_at_once", 0)
        assert {one.payload for one in client.interrupts(node="ask")} == {f"q{at}" for at in range(5)} | {
            "a",
            "b",
        }
        assert client.interrupts(node="nowhere").items == ()
        assert {one.payload for one in client.interrupts(key=tree)} == {"a", "b"}
        child = client.interrupts(key=tree).items[0]
        assert client.interrupts(key=child.flow_key).items == (child,)
        seen, cursor = [], None
        while True:
            page = client.interrupts(limit=3, cursor=cursor)
            seen += [one.interrupt_id for one in page]
            cursor = page.cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 8
        assert seen == sorted(seen, reverse=True), "newest first"
        for bad in ({"limit": 0}, {"limit": 10_000}, {"cursor": "?"}, {"node": 5}):
            with pytest.raises(Invalid):
                engine.interrupts(**bad)  # type: ignore[arg-type]
        engine.cancel(tree)
