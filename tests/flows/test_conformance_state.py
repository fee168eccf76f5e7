"""State as a fold of deltas: writes, deletions, exact numbers, hard strings, attempts that fail or wait."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import App, Engine, Graph, Retry
from penstock.errors import Invalid
from tests.support.acting import acting, done, failed, go
from tests.support.waiting import eventually

app = App("conformance state")

acting(app, "one", "a")
acting(app, "two", "a b").chain("a", "b")
acting(app, "four", "a b c d").chain("a", "b", "c", "d")
acting(app, "handled", "a h").on_error("a", "h")
acting(app, "retried", "a b", a={"retry": Retry(3, 0)}).chain("a", "b")
acting(app, "side by side", "s x y j").fan_out("s", "x", "y").fan_in("j").edge("x", "j").edge("y", "j")


def reduced(name: str, nodes: str) -> Graph:
    graph = acting(app, name, nodes)
    for field, reducer in (("n", "add"), ("log", "append"), ("text", "concat"), ("both", "and")):
        graph.reducer(field, reducer)
    return graph


reduced("sum", "a")
reduced("sum two", "a b").chain("a", "b")
reduced("sum handled", "a h").on_error("a", "h")
acting(app, "sum retried", "a b", a={"retry": Retry(3, 0)}).chain("a", "b").reducer("n", "add")
reduced("sum fan", "s x y j").fan_out("s", "x", "y").fan_in("j").edge("x", "j").edge("y", "j")


def test_a_value_set_is_read_back_in_the_same_task_and_the_view_stays_as_it_was(engine: Engine) -> None:
    outcome = go(engine, "one", {"a": [["set", "x", 2], ["copy", "x", "y"]]}, x=1)
    assert outcome.state["y"] == 2
    step = engine.step(engine.history(outcome.key)[0].key)
    assert step.state is not None
    assert step.state["x"] == 1
    assert step.changes == {"x": 2, "y": 2}


@pytest.mark.parametrize(
    "order", [["set", "x", None], ["del", "x"], ["return", {"x": None}], ["overwrite", "x", None]]
)
def test_null_and_del_remove_a_plain_field_for_everybody_after(engine: Engine, order: list[Any]) -> None:
    assert done(engine, "two", {"a": [order], "b": [["fields", "left"]]}, x=1, y=2) == {"y": 2, "left": ["y"]}


def test_a_field_removed_is_gone_for_the_rest_of_the_same_task(engine: Engine) -> None:
    assert done(engine, "one", {"a": [["del", "x"], ["fields", "left"]]}, x=1)["left"] == []


def test_clear_removes_every_field(engine: Engine) -> None:
    assert go(engine, "one", {"a": [["clear"]]}, x=1, y={"z": 1}).state == {}


def test_a_field_may_be_set_again_after_it_was_removed(engine: Engine) -> None:
    assert done(engine, "two", {"a": [["del", "x"], ["set", "x", 3]], "b": [["copy", "x", "y"]]}, x=1) == {
        "x": 3,
        "y": 3,
    }


def test_a_null_field_of_the_input_is_absent(engine: Engine) -> None:
    assert done(engine, "one", {"a": [["fields", "seen"]]}, x=None) == {"seen": []}


def test_a_null_inside_a_value_is_kept(engine: Engine) -> None:
    value = {"x": None, "y": [None, {"z": None}]}
    assert done(engine, "two", {"a": [["set", "v", value]], "b": [["copy", "v", "w"]]})["w"] == value


def test_the_later_write_of_a_plain_field_wins_along_a_chain(engine: Engine) -> None:
    orders: dict[str, Any] = {node: [["set", "x", node]] for node in "abcd"}
    assert done(engine, "four", orders, x=0) == {"x": "d"}


def test_of_two_branches_that_write_a_plain_field_the_higher_ordinal_wins(engine: Engine) -> None:
    orders: dict[str, Any] = {"x": [["set", "v", "x"]], "y": [["set", "v", "y"]]}
    assert done(engine, "side by side", orders)["v"] == "y"


@pytest.mark.parametrize(
    ("x", "y", "left"), [(["del", "v"], ["set", "v", 1], {"v": 1}), (["set", "v", 1], ["del", "v"], {})]
)
def test_a_deletion_in_one_branch_and_a_write_in_another_follow_the_order_of_branches(
    engine: Engine, x: list[Any], y: list[Any], left: dict[str, Any]
) -> None:
    assert done(engine, "side by side", {"x": [x], "y": [y]}, v=0) == left


def test_the_later_write_of_one_step_stands_whichever_way_it_was_written(engine: Engine) -> None:
    assert done(engine, "one", {"a": [["set", "x", 1], ["return", {"x": 2}]]}) == {"x": 2}


def test_reading_a_reduced_field_shows_what_was_found_and_the_own_part_folded(engine: Engine) -> None:
    orders = [
        ["copy", "n", "before"],
        ["set", "n", 5],
        ["copy", "n", "after"],
        ["set", "n", 6],
        ["copy", "n", "last"],
    ]
    assert done(engine, "sum", {"a": orders}, n=100) == {"n": 106, "before": 100, "after": 105, "last": 106}


def test_overwrite_replaces_a_reduced_field(engine: Engine) -> None:
    assert done(engine, "sum two", {"a": [["overwrite", "n", 1]], "b": [["set", "n", 2]]}, n=50) == {"n": 3}


def test_overwrite_with_null_removes_a_reduced_field(engine: Engine) -> None:
    orders: dict[str, Any] = {"a": [["overwrite", "n", None], ["fields", "seen"]], "b": [["set", "n", 2]]}
    assert done(engine, "sum two", orders, n=50) == {"n": 2, "seen": []}


def test_an_overwrite_in_a_branch_voids_the_contributions_before_it_in_the_order_of_branches(
    engine: Engine,
) -> None:
    orders: dict[str, Any] = {"s": [["set", "n", 1]], "x": [["overwrite", "n", 10]], "y": [["set", "n", 5]]}
    assert done(engine, "sum fan", orders, n=100)["n"] == 15
    orders = {
        "s": [["set", "n", 1]],
        "x": [["set", "n", 5]],
        "y": [["overwrite", "n", 10]],
        "j": [["set", "n", 1]],
    }
    assert done(engine, "sum fan", orders, n=100)["n"] == 11


@pytest.mark.parametrize("order", [["del", "n"], ["clear"]])
def test_a_reduced_field_can_neither_be_deleted_nor_cleared(engine: Engine, order: list[Any]) -> None:
    outcome = go(engine, "sum", {"a": [order]}, n=1, kept=2)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.code == "invalid_state"
    assert "overwrite('n', None)" in outcome.error.message
    assert outcome.state["kept"] == 2


@pytest.mark.parametrize("order", [["set", "n", None], ["return", {"n": None}]])
def test_a_null_contribution_changes_nothing(engine: Engine, order: list[Any]) -> None:
    assert done(engine, "sum", {"a": [order]}, n=7) == {"n": 7}


def test_a_contribution_withdrawn_with_null_in_a_later_attempt_is_gone(engine: Engine) -> None:
    key = engine.create("sum", {"do": {"a": [["withdraw_after_answer", "n", 5]]}, "n": 7})
    engine.wait(key, timeout=20)
    engine.resume(key, "go on")
    assert engine.wait(key, timeout=20).state["n"] == 7


@pytest.mark.parametrize(
    ("field", "value"), [("n", "1"), ("n", True), ("n", [1]), ("text", 1), ("both", 1), ("both", "true")]
)
def test_a_contribution_of_the_wrong_type_is_an_error_of_the_step_that_made_it(
    engine: Engine, field: str, value: Any
) -> None:
    assert failed(engine, "sum two", {"a": [["return", {field: value}]]}) == ("reducer", "a")


def test_an_overwrite_of_the_wrong_type_is_an_error_of_its_step(engine: Engine) -> None:
    assert failed(engine, "sum two", {"a": [["overwrite", "n", "x"]]}, n=1) == ("reducer", "a")


def test_a_wrong_type_is_routed_like_any_error(engine: Engine) -> None:
    state = done(engine, "sum handled", {"a": [["return", {"n": "x"}]], "h": [["set", "n", 1]]}, n=1)
    assert state["n"] == 2
    assert (state["on_error"]["code"], state["on_error"]["node"]) == ("reducer", "a")


def test_an_input_of_the_wrong_type_is_refused_at_create(engine: Engine) -> None:
    with pytest.raises(Invalid, match=r"`n`.*`add`"):
        engine.create("sum", {"n": "x"})


HUGE = 10**80 + 1


def test_integers_stay_exact_and_integers_in_state_reducers_and_conditions(engine: Engine) -> None:
    state = done(
        engine,
        "sum fan",
        {"s": [["copy", "v", "w"]], "x": [["set", "n", HUGE]], "y": [["set", "n", 2]]},
        n=HUGE,
        v=HUGE,
    )
    assert state == {"n": 2 * HUGE + 2, "v": HUGE, "w": HUGE}
    assert all(type(value) is int for value in state.values())


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "\udfff\ud800", "𝄞", "\u2028\\\"'", ""])
def test_any_string_is_a_value_and_a_contribution(engine: Engine, text: str) -> None:
    orders: dict[str, Any] = {
        "a": [["return", {"x": {text[:0]: text}, "log": [text], "text": text}]],
        "b": [["copy", "x", "y"]],
    }
    state = done(engine, "sum two", orders, text="-")
    assert state == {"x": {"": text}, "y": {"": text}, "log": [text], "text": "-" + text}


@pytest.mark.parametrize("name", ["\0", "", " ", "𝄞", "a.b", 'quo"te'])
def test_any_string_of_unicode_is_a_field(engine: Engine, name: str) -> None:
    assert done(engine, "two", {"a": [["return", {name: 1}]], "b": [["copy", name, "y"]]}) == {
        name: 1,
        "y": 1,
    }


def test_half_a_surrogate_pair_in_the_name_of_a_field_is_refused(engine: Engine) -> None:
    outcome = go(engine, "one", {"a": [["return", {"\ud800": 1}]]})
    assert outcome.error is not None
    assert outcome.error.code == "invalid_state"
    assert "name it in Unicode" in outcome.error.message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_number_of_json_is_refused_at_the_write(engine: Engine, value: str) -> None:
    outcome = go(engine, "one", {"a": [["nan", value]]})
    assert outcome.error is not None
    assert outcome.error.code == "invalid_state"
    assert "bad" in outcome.error.message


def test_a_sum_that_is_not_finite_is_an_error_of_the_step_or_of_the_join(engine: Engine) -> None:
    assert failed(engine, "sum two", {"a": [["set", "n", 1e308]]}, n=1e308) == ("reducer", "a")
    orders: dict[str, Any] = {"x": [["set", "n", 1e308]], "y": [["set", "n", 1e308]]}
    assert failed(engine, "sum fan", orders, n=1) == ("reducer", "j")


def test_an_error_voids_the_changes_of_its_attempt(engine: Engine) -> None:
    state = done(
        engine, "handled", {"a": [["set", "x", 1], ["fail", "broken"]], "h": [["fields", "seen"]]}, y=1
    )
    assert state["seen"] == ["on_error", "y"]
    assert set(state) == {"y", "seen", "on_error"}
    assert set(state["on_error"]) == {"code", "message", "type", "node", "step_key", "data"}


def test_changes_of_a_failed_attempt_do_not_reach_the_next_one(engine: Engine) -> None:
    state = done(engine, "retried", {"a": [["fields", "seen"], ["set", "x", 1], ["fail_first", 2]]})
    assert state == {"seen": [], "x": 1}


def test_changes_before_a_retry_that_the_task_asked_for_survive_and_are_seen(engine: Engine) -> None:
    state = done(engine, "one", {"a": [["copy", "x", "seen"], ["set", "x", 1], ["again_first", 1]]})
    assert state == {"x": 1, "seen": 1}


def test_changes_of_an_earlier_retry_survive_an_error_and_are_seen_by_the_handler(engine: Engine) -> None:
    orders: dict[str, Any] = {
        "a": [["set_at", 0, "x", 1], ["again_first", 1], ["set_at", 1, "y", 1], ["fail_at", 1, "late"]]
    }
    state = done(engine, "handled", orders | {"h": [["fields", "seen"]]})
    assert state["seen"] == ["on_error", "x"]


def test_a_step_that_runs_again_contributes_once(engine: Engine) -> None:
    assert done(engine, "sum", {"a": [["set", "n", 5], ["again_first", 3]]}, n=1)["n"] == 6


def test_a_step_that_runs_again_replaces_its_own_part(engine: Engine) -> None:
    orders: dict[str, Any] = {"a": [["set_at", 0, "n", 5], ["set_at", 1, "n", 7], ["again_first", 1]]}
    assert done(engine, "sum", orders, n=1)["n"] == 8


def test_a_step_that_runs_again_without_writing_a_field_keeps_its_earlier_part(engine: Engine) -> None:
    orders: dict[str, Any] = {"a": [["set_at", 0, "n", 5], ["set_at", 0, "gone", None], ["again_first", 2]]}
    assert done(engine, "sum", orders, n=1, gone=1) == {"n": 6}


def test_changes_before_a_park_survive_and_are_not_doubled(engine: Engine) -> None:
    key = engine.create("sum", {"do": {"a": [["set", "n", 5], ["ask", "well?"], ["set", "n", 6]]}, "n": 1})
    waiting = engine.wait(key, timeout=20)
    assert waiting.status == "interrupted"
    engine.resume(key, {"n": 1000})
    final = engine.wait(key, timeout=20)
    assert (final.status, final.state["n"]) == ("completed", 7)


def test_a_mistyped_read_is_an_error_of_the_step_and_an_absent_one_gives_the_default(engine: Engine) -> None:
    outcome = go(engine, "one", {"a": [["typed", "x"]]}, x="three")
    assert outcome.error is not None
    assert outcome.error.code == "invalid_state"
    assert "x" in outcome.error.message
    assert done(engine, "one", {"a": [["typed", "x"]]}) == {}


def test_the_output_of_a_failed_flow_is_the_fold_of_what_completed(engine: Engine) -> None:
    outcome = go(
        engine,
        "sum two",
        {"a": [["set", "n", 2], ["set", "x", 1]], "b": [["set", "x", 2], ["fail", "end"]]},
        n=1,
    )
    assert outcome.status == "failed"
    assert (outcome.state["n"], outcome.state["x"]) == (3, 1)


def test_the_output_of_a_cancelled_flow_is_the_fold_of_what_completed(engine: Engine) -> None:
    key = engine.create("sum two", {"do": {"a": [["set", "n", 2]], "b": [["ask", "?"]]}, "n": 1})
    engine.wait(key, timeout=20)
    engine.cancel(key, "enough")
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.state["n"], outcome.cancel_reason) == ("cancelled", 3, "enough")


def test_the_current_state_of_a_running_flow_can_be_read(engine: Engine) -> None:
    key = engine.create(
        "sum fan", {"do": {"s": [["set", "n", 1]], "x": [["set", "n", 2]], "y": [["ask", "?"]]}, "n": 1}
    )
    engine.wait(key, timeout=20)
    eventually(lambda: engine.snapshot(key).state.get("n") == 4, what="the branch that is done in the state")
    engine.resume(key, None)
    assert engine.wait(key, timeout=20).state["n"] == 4
