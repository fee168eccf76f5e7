"""Trees whose flows are owned by several engines: results, questions and cancels go by messages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock import Client, Engine
from tests.flows.test_child_questions import app
from tests.support.databases import Database, Databases
from tests.support.waiting import eventually

DEPTH = 6


@pytest.fixture
def database(databases: Databases) -> Database:
    return databases.new_postgresql()


@pytest.fixture
def engines(database: Database) -> Iterator[list[Engine]]:
    """Three engines with room for one flow each."""
    with (
        Engine(app, database.url, room=1) as first,
        Engine(app, database.url, room=1) as second,
        Engine(app, database.url, room=1) as third,
    ):
        yield [first, second, third]


def writers(database: Database) -> int:
    """How many engines have written events."""
    ((number,),) = database.rows("SELECT count(DISTINCT replica) FROM penstock_journal")
    return int(number)


def test_questions_and_results_pass_between_engines(database: Database, engines: list[Engine]) -> None:
    keys = [engines[at % 3].create("down", {"depth": DEPTH}) for at in range(6)]
    with Client(None, database.url) as client:
        for at, key in enumerate(keys):
            (question,) = eventually(lambda key=key: client.snapshot(key).interrupts, what="a question")  # type: ignore[misc]
            assert question.flow_key != key
            assert client.wait(key, timeout=20).status == "interrupted"
            (client, *engines)[at % 4].resume(key, at)
        for at, key in enumerate(keys):
            outcome = eventually(
                lambda key=key: (end := client.poll(key)).is_finished and end,  # type: ignore[misc]
                what="the end",
            )
            assert (outcome.status, outcome.state["answer"]) == ("completed", at)
    assert writers(database) > 1
    assert database.rows("SELECT count(*) FROM penstock_interrupts") == [(0,)]


def test_a_branch_answered_elsewhere_leaves_the_root_interrupted_until_the_last(
    database: Database, engines: list[Engine]
) -> None:
    first = engines[0]
    items = ["a", "b", "c", "d"]
    key = first.create("each", {"items": items})
    eventually(lambda: len(first.snapshot(key).interrupts) == 4, what="four questions")
    for left in (3, 2, 1, 0):
        assert first.wait(key, timeout=20).status == "interrupted"
        engines[left % 3].resume(key, left)
        eventually(lambda left=left: len(first.snapshot(key).interrupts) == left, what=f"{left} left")  # type: ignore[misc]
    outcome = first.wait(key, timeout=20)
    assert (outcome.status, sorted(outcome.state["answers"])) == ("completed", [0, 1, 2, 3])


def test_a_cancel_reaches_children_that_other_engines_own(database: Database, engines: list[Engine]) -> None:
    first = engines[0]
    key = first.create("down", {"depth": DEPTH})
    eventually(lambda: first.snapshot(key).interrupts, what="the question at the bottom")
    engines[1].cancel(key, "enough")
    eventually(
        lambda: database.rows("SELECT count(*) FROM penstock_live") == [(0,)], what="the end of the tree"
    )
    rows = database.rows("SELECT DISTINCT status, cancel_reason FROM penstock_flows")
    assert rows == [("cancelled", "enough")]
    assert database.rows("SELECT count(*) FROM penstock_interrupts") == [(0,)]
