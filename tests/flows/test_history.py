"""Reading what happened: steps with events, children, times; drawn, counted, and told apart; from any process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from penstock import App, Client, Engine, Flow, Retry, Tolerate
from penstock.errors import Invalid, NotFound
from tests.support.acting import acting, go
from tests.support.waiting import eventually

app = App("history")

acting(app, "chain", "a b", a={"retry": Retry(5, 0)}).chain("a", "b").reducer("n", "add")
acting(app, "asking", "a b").chain("a", "b").reducer("n", "add")
acting(app, "each", "s b j", s={"on_failure": Tolerate(1)}).for_each("s", "b", over="items").edge(
    "b", "j"
).fan_in("j").reducer("n", "add")
acting(app, "direct", "o s b j x out").fan_out("o", "s", "x").edge("s", "b", when="go").edge("s", "j").edge(
    "b", "j"
).fan_in("j").edge("j", "out").edge("x", "out").fan_in("out")
acting(app, "two lanes", "s a b j").fan_out("s", "a", "b").edge("a", "j").edge("b", "j").fan_in("j")


@app.task
def call(flow: Flow, depth: int) -> dict[str, Any]:
    if depth:
        return {"below": flow.subgraph("deep", {"depth": depth - 1})}
    return {"answer": flow.interrupt("at the bottom")}


@app.task
def call_two(flow: Flow) -> None:
    flow.subgraph("chain", {"do": {}}, key="one")
    flow.subgraph("each", {"do": {}, "items": [1, 2]}, key="two")


@app.task
def later(flow: Flow) -> None:
    flow.delay(0.05)


started, release = threading.Event(), threading.Event()


@app.task
def hold() -> None:
    started.set()
    release.wait(20)


@app.task
def nap(flow: Flow) -> None:
    flow.sleep(0.05)


@app.task
def doze(flow: Flow) -> None:
    flow.sleep(2.5)


app.graph("long nap").entry(nap).edge(nap, doze)
app.graph("deep").chain(call)
app.graph("two").chain(call_two)
app.graph("later").entry(later).node("next", "nap").edge(later, "next")
app.graph("held").chain(hold)


@pytest.fixture(params=["engine", "client"])
def reader(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Engine | Client]:
    """The engine itself, and a client that reads the database behind its back."""
    if request.param == "engine":
        yield engine
        return
    with Client(None, engine._settings.url) as client:
        yield client


Reader = Engine | Client


def test_every_attempt_stands_in_the_history_with_its_error(engine: Engine, reader: Reader) -> None:
    key = go(engine, "chain", {"a": [["fail_first", 2]]}).key
    first, second = reader.history(key)
    assert [event.kind for event in first.events] == ["retry", "retry", "done"]
    assert [event.attempt for event in first.events] == [0, 1, 2]
    errors = [event.detail["error"] for event in first.events[:2]]
    assert [(error["code"], error["message"]) for error in errors] == [
        ("error", "attempt 0"),
        ("error", "attempt 1"),
    ]  # type: ignore[call-overload,index]
    assert (first.status, first.attempt, first.predecessors) == ("completed", 2, ())
    assert (second.status, second.attempt, second.predecessors) == ("completed", 0, (1,))
    assert first.finished_at is not None
    assert second.created_at is not None
    assert first.finished_at <= second.created_at
    assert first.ran is not None
    assert first.queued is not None
    assert first.replica is not None


def test_children_are_nested_to_any_depth(engine: Engine, reader: Reader) -> None:
    key = engine.create("deep", {"depth": 4})
    eventually(lambda: engine.progress(key) == {"parked": 5}, what="the question at the bottom")
    steps, nodes = reader.history(key), []
    while steps:
        (step,) = steps
        nodes.append((step.node, step.status))
        steps = step.children[0] if step.children else ()
    assert nodes == [("call", "parked")] * 5


def test_several_children_of_a_step_stand_in_the_order_of_their_calls(engine: Engine, reader: Reader) -> None:
    outcome = engine.run("two", timeout=20)
    (step,) = reader.history(outcome.key)
    assert [[inner.node for inner in child] for child in step.children] == [["a", "b"], ["s", "b", "b", "j"]]
    child = step.children[1][0]
    assert reader.step(child.key).node == "s", "a step of a child is read by its key"
    assert reader.history(child.key.split("/")[0]) == step.children[1]


def test_a_step_tells_the_state_that_it_saw_and_what_it_changed(engine: Engine, reader: Reader) -> None:
    key = go(
        engine, "chain", {"a": [["set", "n", 2], ["del", "gone"]], "b": [["overwrite", "n", 9]]}, n=1, gone=1
    ).key
    first, second = (reader.step(step.key) for step in reader.history(key))
    assert first.state is not None
    assert second.state is not None
    assert {name: first.state[name] for name in ("n", "gone")} == {"n": 1, "gone": 1}
    assert first.changes == {"n": 2, "gone": None}
    assert second.state["n"] == 3
    assert "gone" not in second.state
    assert second.changes == {"n": 9}
    assert reader.history(key)[0].state is None


def test_a_join_names_the_last_steps_of_the_branches_that_arrived(engine: Engine) -> None:
    items = [{"do": []}, {"do": [["fail", "x"]]}, {"do": []}]
    steps = engine.history(go(engine, "each", {"b": "item"}, items=items).key)
    assert [(step.node, step.ordinal) for step in steps] == [
        ("s", None),
        ("b", 0),
        ("b", 1),
        ("b", 2),
        ("j", None),
    ]
    assert sorted(steps[4].predecessors) == [2, 4]
    assert [step.status for step in steps] == ["completed", "completed", "failed", "completed", "completed"]


@pytest.mark.parametrize("way", [True, False])
def test_an_inner_join_does_not_name_the_branches_of_the_outer_cohort(engine: Engine, way: bool) -> None:
    key = engine.create("direct", {"do": {"s": [["ask", "?"]]}, "go": way})
    eventually(
        lambda: engine.history(key)[-1].node == "x" and engine.history(key)[-1].status == "completed",
        what="the outer sibling",
    )
    engine.resume(key)
    engine.wait(key, timeout=20)
    by_node = {step.node: step for step in engine.history(key)}
    expected = {by_node["s"].number, by_node["b"].number} if way else {by_node["s"].number}
    assert set(by_node["j"].predecessors) == expected
    assert set(by_node["out"].predecessors) == {by_node["j"].number, by_node["x"].number}


def test_statuses_are_told_while_a_flow_runs(engine: Engine, reader: Reader) -> None:
    key = engine.create("two lanes", {"do": {"a": [["ask", "?"]], "b": [["fail", "x"]]}})
    eventually(
        lambda: [step.status for step in reader.history(key)] == ["completed", "parked", "failed"],
        what="one parked, one failed",
    )
    engine.cancel(key)
    eventually(
        lambda: [step.status for step in reader.history(key)] == ["completed", "cancelled", "failed"],
        what="the cancel",
    )


def test_a_step_that_is_put_off_waits_and_the_time_is_told(engine: Engine) -> None:
    outcome = engine.run("later", timeout=20)
    first, second = engine.history(outcome.key)
    assert first.waited == timedelta(0)
    assert second.waited is not None
    assert second.waited >= timedelta(seconds=0.1), "put off before it ran, asleep afterwards"


def test_a_question_s_waiting_time_grows_until_the_answer(engine: Engine, reader: Reader) -> None:
    key = engine.create("asking", {"do": {"a": [["ask", "?"]]}})
    engine.wait(key, timeout=20)
    (step,) = reader.history(key)
    waited = step.waited
    assert waited is not None
    eventually(lambda: (reader.history(key)[0].waited or waited) > waited, what="a longer wait")
    engine.resume(key)
    engine.wait(key, timeout=20)
    ended = reader.history(key)[0].waited
    assert reader.history(key)[0].waited == ended


def test_the_owner_tells_which_steps_run(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'running.db'}"
    with Engine(app, url) as engine, Client(None, url) as client:
        key = engine.create("held")
        assert started.wait(20)
        assert [step.status for step in engine.history(key)] == ["running"]
        assert [step.status for step in client.history(key)] == ["ready"]
        assert engine.progress(key) == {"running": 1}
        release.set()
        assert engine.wait(key, timeout=20).status == "completed"


def test_unknown_keys_are_not_found(reader: Reader, engine: Engine) -> None:
    known = go(engine, "chain").key
    other = known[:-4] + ("aaaa" if not known.endswith("aaaa") else "bbbb")
    reads: list[Callable[[str], object]] = [
        reader.history,
        reader.history_mermaid,
        reader.fingerprint,
        reader.progress,
        reader.snapshot,
    ]
    for read in reads:
        for key in (other, "nonsense", ""):
            with pytest.raises(NotFound):
                read(key)
    for key in (f"{known}/9", f"{known}/0", f"{other}/1", known):
        with pytest.raises(NotFound):
            reader.step(key)


@pytest.mark.parametrize("direction", ["LR", "RL", "TB", "BT"])
def test_a_history_is_drawn_in_four_directions(engine: Engine, reader: Reader, direction: Any) -> None:
    chart = reader.history_mermaid(engine.run("two", timeout=20).key, direction)
    head, *lines = chart.splitlines()
    assert head == f"flowchart {direction}"
    assert "    start --> s1" in lines
    assert "    s1 --> stop" in lines
    assert '    subgraph s1c0["called by call_two"]' in lines
    assert "    s1 -.-> s1c1s1" in lines
    assert "    s1c1s2 --> s1c1s4" in lines
    assert sum(line.strip() == "end" for line in lines) == 2
    assert re.search(r's1\["call_two<br/>completed[^"]*"\]:::completed', chart)


def test_a_history_is_drawn_while_the_flow_goes_on(engine: Engine, reader: Reader) -> None:
    key = engine.create("asking", {"do": {"a": [["ask", "?"]]}})
    engine.wait(key, timeout=20)
    chart = reader.history_mermaid(key)
    assert ":::parked" in chart
    assert "stop" not in chart
    with pytest.raises(Invalid, match="LR, RL, TB or BT"):
        reader.history_mermaid(key, "XX")  # type: ignore[arg-type]  # a wrong value is the subject


def test_the_fingerprint_changes_with_whatever_happens_and_with_nothing_else(
    engine: Engine, reader: Reader
) -> None:
    key = engine.create("deep", {"depth": 1})
    eventually(lambda: engine.progress(key) == {"parked": 2}, what="the question of the child")
    seen = [reader.fingerprint(key)]
    assert reader.fingerprint(key) == seen[0]
    go(engine, "chain")
    assert reader.fingerprint(key) == seen[0], "another flow is no part of it"
    engine.cancel(key, "enough")
    eventually(lambda: engine.progress(key) == {"cancelled": 2}, what="the cancel of parent and child")
    assert reader.fingerprint(key) not in seen


def test_progress_counts_the_steps_of_the_whole_tree(engine: Engine, reader: Reader) -> None:
    key = engine.run("two", timeout=20).key
    counts = reader.progress(key)
    assert counts == {"completed": 7}
    assert counts["failed"] == 0
    failed = go(engine, "chain", {"b": [["fail", "x"]]}).key
    assert reader.progress(failed) == {"completed": 1, "failed": 1}


def test_a_snapshot_of_a_running_flow_has_its_current_state_from_any_process(
    engine: Engine, reader: Reader
) -> None:
    orders = {"a": [["set", "n", 5], ["set", "x", "before"], ["ask", "?"], ["set", "n", 6]]}
    key = engine.create("asking", {"do": orders, "n": 1})
    engine.wait(key, timeout=20)
    now = reader.snapshot(key)
    assert (now.status, now.state["n"], now.state["x"]) == ("interrupted", 6, "before")
    assert (now.key, now.workflow, now.thread_key, now.error) == (key, "asking", key, None)
    assert [question.payload for question in now.interrupts] == ["?"]
    assert not now.is_finished
    engine.resume(key)
    assert engine.wait(key, timeout=20).state["n"] == 7
    assert reader.snapshot(key).state["n"] == 7


def test_a_list_finds_a_running_flow_by_the_node_at_which_it_stands(engine: Engine, reader: Reader) -> None:
    key = engine.create("asking", {"do": {"b": [["ask", "?"]]}})
    engine.wait(key, timeout=20)
    eventually(
        lambda: key in [flow.key for flow in reader.list(node="b", workflow="asking")],
        what="the place in the list",
    )
    assert key not in [flow.key for flow in reader.list(node="a", workflow="asking")]
    engine.cancel(key)


def test_a_flow_that_stays_at_its_place_without_a_stop_is_listed_there_after_a_second(
    engine: Engine, reader: Reader
) -> None:
    # Its sleep is too short for a release and nothing changes its status: only the place itself can be told.
    key = engine.create("long nap")
    eventually(
        lambda: [flow.nodes for flow in reader.list(workflow="long nap") if flow.key == key] == [("doze",)],
        what="the place in the list",
    )
    assert key in [flow.key for flow in reader.list(node="doze")]
    assert engine.wait(key, timeout=20).status == "completed"
