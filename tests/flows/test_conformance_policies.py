"""What a failed branch does to its cohort: drain, fail_fast, Tolerate and First, alone and nested."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from penstock import App, Engine, First, Outcome, Tolerate
from penstock.graph import OnFailure
from tests.support.acting import acting, go
from tests.support.waiting import eventually

app = App("conformance policies")

POLICIES: dict[str, OnFailure] = {
    "drain": "drain",
    "fail_fast": "fail_fast",
    "tolerate 1": Tolerate(1),
    "tolerate 9": Tolerate(9),
    "first 1": First(1),
    "first 2": First(2),
    "first 5": First(5),
}
for name, policy in POLICIES.items():
    options: dict[str, Any] = {"on_failure": policy}
    acting(app, name, "s b c j", s=options).for_each("s", "b", over="items").edge("b", "c").edge(
        "c", "j"
    ).fan_in("j").reducer("log", "append")
    acting(app, f"{name} to end", "s b", s=options).for_each("s", "b", over="items").reducer("log", "append")
    acting(app, f"{name} inside", "o s b j x out", s=options).fan_out("o", "s", "x").for_each(
        "s", "b", over="items"
    ).edge("b", "j").fan_in("j").edge("j", "out").edge("x", "out").fan_in("out").reducer("log", "append")
    acting(app, f"{name} outside", "s i b c k j", s=options).for_each(
        "s", "i", over="items", bind="row"
    ).fan_out("i", "b", "c").edge("b", "k").edge("c", "k").fan_in("k").edge("k", "j").fan_in("j").reducer(
        "log", "append"
    )
acting(app, "handled", "s b j h").for_each("s", "b", over="items").edge("b", "j").fan_in("j").on_error(
    "s", "h"
)


def branch(at: int, *orders: list[Any]) -> dict[str, Any]:
    return {"do": [*orders, ["set", "log", at]]}


OK, FAIL, ASK = [], [["fail", "broken"]], [["ask", "?"]]


def items(*orders: list[list[Any]]) -> list[dict[str, Any]]:
    return [branch(at, *each) for at, each in enumerate(orders)]


def statuses(engine: Engine, key: str, node: str = "b") -> list[str]:
    return [step.status for step in engine.history(key) if step.node == node]


def asked(engine: Engine, workflow: str, do: dict[str, Any], *orders: list[list[Any]]) -> Outcome:
    """Run until only the branches that ask are left, then answer all of them."""
    key = engine.create(workflow, {"do": {"b": "item", **do}, "items": items(*orders)})
    questions = sum(order == ASK for order in orders)

    def is_settled() -> bool:
        snapshot = engine.snapshot(key)
        found = Counter(statuses(engine, key))
        return (
            snapshot.is_finished
            or found["parked"] == questions == len(orders) - found["completed"] - found["failed"]
        )

    eventually(is_settled, what="every branch that does not ask to be done")
    for _ in range(questions):
        if engine.snapshot(key).status == "interrupted":
            engine.resume(key)
    return engine.wait(key, timeout=20)


def test_drain_lets_the_siblings_finish_and_then_fails(engine: Engine) -> None:
    outcome = asked(engine, "drain", {}, FAIL, ASK, OK)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("broken", "b")
    assert outcome.state["log"] == [1, 2], "partial results stay"
    assert statuses(engine, outcome.key) == ["failed", "completed", "completed"]
    assert statuses(engine, outcome.key, "j") == []


def test_fail_fast_cancels_the_siblings(engine: Engine) -> None:
    key = engine.create(
        "fail_fast", {"do": {"b": "item"}, "items": items(ASK, [["ask", "then"], *FAIL], ASK)}
    )
    eventually(lambda: len(engine.snapshot(key).interrupts) == 3, what="three questions")
    second = next(one for one in engine.snapshot(key).interrupts if one.payload == "then")
    engine.resume(key, interrupt_id=second.interrupt_id)
    outcome = eventually(lambda: (now := engine.snapshot(key)).is_finished and now, what="the end")
    assert outcome is not False
    assert outcome.status == "failed"
    assert outcome.interrupts == ()
    assert statuses(engine, key) == ["cancelled", "failed", "cancelled"]


def test_tolerated_branches_join_without_contributing(engine: Engine) -> None:
    outcome = go(engine, "tolerate 1", {"b": "item", "j": [["set", "log", "j"]]}, items=items(OK, FAIL, OK))
    assert (outcome.status, outcome.state["log"]) == ("completed", [0, 2, "j"])


def test_a_tolerated_branch_does_not_contribute_what_its_earlier_steps_did(engine: Engine) -> None:
    orders: dict[str, Any] = {"b": "item", "c": [["fail_if", "item_index", 1]]}
    outcome = go(engine, "tolerate 1", orders, items=items(OK, OK, OK))
    assert (outcome.status, outcome.state["log"]) == ("completed", [0, 2])


def test_more_failures_than_tolerated_fail_the_cohort_after_its_siblings(engine: Engine) -> None:
    outcome = asked(engine, "tolerate 1", {}, FAIL, FAIL, ASK)
    assert (outcome.status, outcome.state["log"]) == ("failed", [2])


def test_all_branches_may_fail_when_that_many_are_tolerated(engine: Engine) -> None:
    outcome = go(engine, "tolerate 9", {"b": "item", "j": [["set", "log", "j"]]}, items=items(FAIL, FAIL))
    assert (outcome.status, outcome.state["log"]) == ("completed", ["j"])


def test_the_first_arrivals_join_in_the_order_of_branches_and_the_rest_is_cancelled(engine: Engine) -> None:
    outcome = asked(engine, "first 2", {"j": [["set", "log", "j"]]}, ASK, OK, ASK, OK)
    assert (outcome.status, outcome.state["log"]) == ("completed", [1, 3, "j"])
    assert statuses(engine, outcome.key) == ["cancelled", "completed", "cancelled", "completed"]


def test_failures_beside_the_first_arrivals_do_not_matter(engine: Engine) -> None:
    outcome = asked(engine, "first 1", {}, FAIL, FAIL, OK)
    assert (outcome.status, outcome.state["log"]) == ("completed", [2])


def test_first_fails_as_soon_as_too_few_can_arrive(engine: Engine) -> None:
    key = engine.create("first 2", {"do": {"b": "item"}, "items": items(FAIL, FAIL, ASK)})
    outcome = eventually(lambda: (now := engine.snapshot(key)).is_finished and now, what="the end")
    assert outcome is not False
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.code == "broken"
    assert statuses(engine, key) == ["failed", "failed", "cancelled"]


def test_first_of_more_branches_than_there_are_fails_at_once(engine: Engine) -> None:
    outcome = go(engine, "first 5", {"b": "item"}, items=items(OK, OK))
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("no_match", "s")


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_lets_an_empty_cohort_join(engine: Engine, name: str) -> None:
    outcome = go(engine, name, {"j": [["set", "log", "j"]]}, items=[])
    assert (outcome.status, outcome.state["log"]) == ("completed", ["j"])
    assert go(engine, f"{name} to end", items=[]).status == "completed"


@pytest.mark.parametrize(
    ("name", "status", "log"),
    [("drain", "failed", [0]), ("tolerate 1", "completed", [0]), ("first 1", "completed", [0])],
)
def test_policies_hold_where_branches_end_at_the_end(
    engine: Engine, name: str, status: str, log: list[int]
) -> None:
    outcome = go(engine, f"{name} to end", {"b": "item"}, items=items(OK, FAIL))
    assert (outcome.status, outcome.state["log"]) == (status, log)


@pytest.mark.parametrize("name", ["drain", "fail_fast", "first 2"])
def test_a_failed_inner_cohort_is_one_failed_branch_of_the_outer_one_after_its_siblings(
    engine: Engine, name: str
) -> None:
    key = engine.create(
        f"{name} inside",
        {"do": {"b": "item", "x": [["ask", "?"], ["set", "log", "x"]]}, "items": items(FAIL, FAIL)},
    )
    eventually(
        lambda: (
            set(statuses(engine, key)) <= {"failed", "cancelled"} and statuses(engine, key, "x") == ["parked"]
        ),
        what="the inner cohort's end",
    )
    assert engine.snapshot(key).status == "interrupted"
    engine.resume(key)
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.state["log"]) == ("failed", ["x"])
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("broken", "b")


@pytest.mark.parametrize(("name", "log"), [("tolerate 1", [1, "j", "x"]), ("first 1", [1, "j", "x"])])
def test_an_inner_cohort_that_bears_its_failure_joins_in_the_outer_one(
    engine: Engine, name: str, log: list[Any]
) -> None:
    orders: dict[str, Any] = {"b": "item", "j": [["set", "log", "j"]], "x": [["set", "log", "x"]]}
    outcome = go(engine, f"{name} inside", orders, items=items(FAIL, OK))
    assert (outcome.status, outcome.state["log"]) == ("completed", log)


def test_an_outer_cohort_tolerates_a_branch_whose_inner_cohort_failed(engine: Engine) -> None:
    rows = [{"do": [["set", "log", at]]} for at in range(3)]
    orders: dict[str, Any] = {
        "i": "row",
        "b": [["fail_if", "row_index", 1]],
        "c": [["contribute", "row_index", "log"]],
    }
    outcome = go(engine, "tolerate 1 outside", orders, items=rows)
    assert (outcome.status, outcome.state["log"]) == ("completed", [0, 0, 2, 2])


def test_fail_fast_cancels_cohorts_inside_the_siblings(engine: Engine) -> None:
    rows = [{"do": []}, {"do": []}]
    orders: dict[str, Any] = {
        "i": "row",
        "b": [["ask", "b"], ["fail_if", "row_index", 1]],
        "c": [["ask", "c"]],
    }
    key = engine.create("fail_fast outside", {"do": orders, "items": rows})
    eventually(lambda: len(engine.snapshot(key).interrupts) == 4, what="four questions")
    failing = next(
        step.key
        for step in engine.history(key)
        if step.node == "b" and (engine.step(step.key).state or {})["row_index"] == 1
    )
    # The inner cohort drains: its failure moves outward once both of its branches are done.
    for question in engine.snapshot(key).interrupts:
        if question.step_key == failing or (engine.step(question.step_key).state or {})["row_index"] == 1:
            engine.resume(key, interrupt_id=question.interrupt_id)
    outcome = eventually(lambda: (now := engine.snapshot(key)).is_finished and now, what="the end")
    assert outcome is not False
    assert (outcome.status, outcome.interrupts) == ("failed", ())
    assert sorted(statuses(engine, key) + statuses(engine, key, "c")) == [
        "cancelled",
        "cancelled",
        "completed",
        "failed",
    ]


def test_the_first_failure_of_the_journal_is_the_error_of_the_flow(engine: Engine) -> None:
    key = engine.create(
        "drain", {"do": {"b": "item"}, "items": items([*ASK, ["fail", "second"]], [["fail", "first"]])}
    )
    eventually(lambda: statuses(engine, key) == ["parked", "failed"], what="the first failure")
    engine.resume(key)
    outcome = engine.wait(key, timeout=20)
    assert outcome.error is not None
    assert outcome.error.code == "first"


def test_the_handler_of_a_source_does_not_handle_the_failures_of_its_branches(engine: Engine) -> None:
    assert go(engine, "handled", {"b": "item"}, items=items(FAIL)).status == "failed"
