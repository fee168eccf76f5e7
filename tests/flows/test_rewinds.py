"""Going back in place: what runs again, what stays, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import App, Engine, Flow, Graph, Tolerate
from penstock.errors import Conflict, Invalid, NotFound, Permanent

app = App("rewinds")


@app.task
def start(flow: Flow) -> dict[str, Any]:
    return {"log": ["start"]}


@app.task
def middle(flow: Flow, ok: bool = True) -> dict[str, Any]:
    if not ok:
        raise Permanent("broken", "middle is broken")
    return {"log": [f"middle {flow.attempt}"]}


@app.task
def ending(flow: Flow) -> dict[str, Any]:
    return {"log": ["ending"], "steps": flow.step_key.rsplit("/", 1)[1]}


@app.task
def part(flow: Flow, item: int, bad: list[int] | None = None) -> dict[str, Any]:
    if item in (bad or []):
        raise Permanent("bad", f"{item} is bad", data=item)
    return {"total": item, "log": [f"part {item}"]}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    answer = flow.interrupt({"ask": "how?"})
    return {"answer": answer, "log": ["asked"]}


@app.task
def wait_and_see(flow: Flow) -> dict[str, Any]:
    flow.wait_signal("never")
    return {"log": ["saw"]}


def _graph(name: str) -> Graph:
    return app.graph(name).reducer("log", "append").reducer("total", "add")


_graph("chain").chain(start, middle, ending)
_graph("each").node(start).for_each(start, part, over="items").edge(part, ending).fan_in(ending)
fast = _graph("fast").node(start, on_failure="fail_fast")
fast.fan_out(start, middle, ask).edge(middle, ending).edge(ask, ending).fan_in(ending)
tolerant = _graph("tolerant").node(start, on_failure=Tolerate(1))
tolerant.for_each(start, part, over="items").edge(part, middle).fan_in(middle).edge(middle, ending)
_graph("asking").chain(start, ask, ending)
routed = _graph("routed").chain(start, middle)
routed.on_error(middle, ending)

ITEMS = {"items": [1, 2, 3]}


def step_of(engine: Engine, key: str, node: str, ordinal: int | None = None) -> str:
    """The newest step of a node."""
    found = [step for step in engine.history(key) if step.node == node and ordinal in (None, step.ordinal)]
    return found[-1].key


def test_restart_runs_the_whole_flow_again_under_its_key(engine: Engine) -> None:
    key = engine.run("chain", {"log": ["input"]}).key
    engine.restart(key, {"log": ["other"], "new": 1})
    outcome = engine.wait(key, timeout=20)
    assert outcome.status == "completed"
    assert outcome.state["log"] == ["other", "start", "middle 0", "ending"]
    assert outcome.state["new"] == 1


def test_what_happened_before_a_restart_stays_readable(engine: Engine) -> None:
    failed = engine.run("chain", {"ok": False})
    engine.restart(failed.key, {"ok": None})
    outcome = engine.wait(failed.key, timeout=20)
    assert (outcome.status, outcome.error, outcome.state.get("ok")) == ("completed", None, None)
    steps = engine.history(failed.key)
    assert [step.number for step in steps] == [1, 2, 3, 4]
    assert [(step.node, step.status) for step in steps] == [
        ("start", "completed"),
        ("middle", "failed"),
        ("middle", "completed"),
        ("ending", "completed"),
    ]
    assert [event.kind for event in steps[0].events] == ["done", "control", "done"]
    summary = next(flow for flow in engine.list(workflow="chain").items if flow.key == failed.key)
    assert (summary.status, summary.error) == ("completed", None)


def test_restart_from_runs_a_step_and_what_follows_and_keeps_what_was_before(engine: Engine) -> None:
    key = engine.run("chain", {}).key
    engine.restart_from(step_of(engine, key, "middle"), {"note": "again"})
    outcome = engine.wait(key, timeout=20)
    assert outcome.state == {"log": ["start", "middle 0", "ending"], "note": "again", "steps": "4"}


def test_an_override_replaces_a_reduced_field_and_null_deletes(engine: Engine) -> None:
    key = engine.run("chain", {"gone": 1}).key
    engine.restart_from(step_of(engine, key, "middle"), {"log": ["fresh"], "gone": None})
    outcome = engine.wait(key, timeout=20)
    assert outcome.state["log"] == ["fresh", "middle 0", "ending"]
    assert "gone" not in outcome.state


def test_overrides_stay_when_a_later_step_is_run_again(engine: Engine) -> None:
    key = engine.run("chain", {}).key
    engine.restart_from(step_of(engine, key, "start"), {"kept": 5})
    assert engine.wait(key, timeout=20).state["kept"] == 5
    engine.restart_from(step_of(engine, key, "middle"))
    assert engine.wait(key, timeout=20).state["kept"] == 5


def test_a_branch_runs_again_and_its_siblings_keep_what_they_did(engine: Engine) -> None:
    key = engine.run("each", ITEMS).key
    branch = step_of(engine, key, "part", 1)
    engine.restart_from(branch, {"item": 20})
    outcome = engine.wait(key, timeout=20)
    assert outcome.state["total"] == 24
    assert outcome.state["log"] == ["start", "part 1", "part 20", "part 3", "ending"]
    joins = [step for step in engine.history(key) if step.node == "ending"]
    assert [step.number for step in joins] == [5, 6]


def test_recover_runs_every_failed_branch_again_and_tells_how_many(engine: Engine) -> None:
    failed = engine.run("each", {"items": list(range(6)), "bad": [1, 4]})
    assert failed.status == "failed"
    assert engine.recover(failed.key, {"bad": []}) == 2
    outcome = engine.wait(failed.key, timeout=20)
    assert (outcome.status, outcome.state["total"]) == ("completed", 15)
    with pytest.raises(Conflict, match="is completed: recover asks for a failed flow"):
        engine.recover(failed.key)


def test_retrying_one_of_two_failed_branches_fails_again_by_the_other(engine: Engine) -> None:
    failed = engine.run("each", {**ITEMS, "bad": [1, 3]})
    engine.retry_step(step_of(engine, failed.key, "part", 0), {"bad": []})
    again = engine.wait(failed.key, timeout=20)
    assert again.status == "failed"
    assert again.error is not None
    assert again.error.data == 3
    engine.retry_step(step_of(engine, failed.key, "part", 2), {"bad": []})
    assert engine.wait(failed.key, timeout=20).state["total"] == 6


def test_a_sibling_that_fail_fast_had_cancelled_lives_again(engine: Engine) -> None:
    key = engine.create("fast", {"ok": False})
    failed = engine.wait(key, timeout=20)
    while failed.status == "interrupted":
        failed = engine.wait(key, timeout=20)
    assert failed.status == "failed"
    engine.retry_step(step_of(engine, key, "middle"), {"ok": True})
    assert engine.wait(key, timeout=20).status == "interrupted"
    engine.resume(key, "well")
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.state["answer"]) == ("completed", "well")


def test_a_tolerated_failure_that_its_join_left_behind_stays(engine: Engine) -> None:
    failed = engine.run("tolerant", {**ITEMS, "bad": [2], "ok": False})
    assert engine.recover(failed.key, {"ok": True}) == 1
    outcome = engine.wait(failed.key, timeout=20)
    assert (outcome.status, outcome.state["total"]) == ("completed", 4)


def test_retry_of_a_tolerated_branch_goes_back_before_the_join(engine: Engine) -> None:
    done = engine.run("tolerant", {**ITEMS, "bad": [2]})
    assert (done.status, done.state["total"]) == ("completed", 4)
    engine.retry_step(step_of(engine, done.key, "part", 1), {"bad": []})
    assert engine.wait(done.key, timeout=20).state["total"] == 6


def test_an_interrupted_flow_restarts_and_asks_again(engine: Engine) -> None:
    key = engine.create("asking", {})
    first = engine.wait(key, timeout=20).interrupts
    engine.restart(key)
    outcome = engine.wait(key, timeout=20)
    while outcome.interrupts == first:
        outcome = engine.wait(key, timeout=20)
    second = engine.wait(key, timeout=20).interrupts
    assert len(second) == 1
    assert second[0].interrupt_id != first[0].interrupt_id
    engine.resume(key, "so")
    assert engine.wait(key, timeout=20).state["answer"] == "so"


def test_a_step_that_waits_can_be_run_again_while_the_flow_lives(engine: Engine) -> None:
    key = engine.create("asking", {})
    before = engine.wait(key, timeout=20)
    engine.restart_from(before.interrupts[0].step_key)
    outcome = engine.wait(key, timeout=20)
    assert outcome.interrupts[0].step_key == before.interrupts[0].step_key
    engine.resume(key, "yes")
    assert engine.wait(key, timeout=20).state["log"] == ["start", "asked", "ending"]


def test_a_cancelled_flow_takes_a_restart_and_nothing_else(engine: Engine) -> None:
    key = engine.create("asking", {})
    engine.wait(key, timeout=20)
    engine.cancel(key, "no need")
    step = step_of(engine, key, "ask")
    for refused in (engine.restart_from, engine.retry_step):
        with pytest.raises(Conflict, match="is cancelled"):
            refused(step)
    with pytest.raises(Conflict, match="is cancelled"):
        engine.recover(key)
    assert engine.snapshot(key).status == "cancelled"
    engine.restart(key)
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.cancel_reason) == ("interrupted", None)
    engine.cancel(key)


def test_what_cannot_go_back_is_refused_and_stays_as_it_is(engine: Engine) -> None:
    done = engine.run("chain", {})
    with pytest.raises(Conflict, match="is not a failed one"):
        engine.retry_step(step_of(engine, done.key, "middle"))
    with pytest.raises(NotFound, match="no step has the key"):
        engine.restart_from(f"{done.key}/99")
    with pytest.raises(Invalid, match="`total`: the reducer `add`"):
        engine.restart(done.key, {"total": "many"})
    with pytest.raises(Invalid, match="overrides"):
        engine.restart(done.key, ["no mapping"])  # type: ignore[arg-type]
    handled = engine.run("routed", {"ok": False})
    with pytest.raises(Conflict, match="on_error; use restart_from"):
        engine.retry_step(step_of(engine, handled.key, "middle"))
    assert engine.wait(done.key, timeout=20).state == done.state


def test_a_step_that_a_rewind_left_behind_is_no_part_of_the_flow(engine: Engine) -> None:
    key = engine.run("chain", {}).key
    old = step_of(engine, key, "ending")
    engine.restart_from(step_of(engine, key, "middle"))
    engine.wait(key, timeout=20)
    with pytest.raises(Conflict, match="a rewind left it behind"):
        engine.restart_from(old)


def test_a_kept_failure_that_closes_the_fan_out_is_named(engine: Engine) -> None:
    key = engine.create("fast", {"ok": False})
    while engine.wait(key, timeout=20).status == "interrupted":
        pass
    waiting = step_of(engine, key, "ask")
    failed = step_of(engine, key, "middle")
    with pytest.raises(Conflict, match=f"while the failure of step {failed} stands"):
        engine.restart_from(waiting)
