"""Many who answer one question at once: one wins, and the others learn who."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock import Client, Engine
from penstock.errors import Conflict
from tests.flows.client_app import app
from tests.support.databases import Databases
from tests.support.host import Host

ROUNDS = 200
RIVALS = 4


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, database_url: str, databases: Databases) -> str:
    """A database on disk, or on a server."""
    return database_url if request.param == "sqlite" else databases.new_postgresql().url


def race(keys: list[str], answer: Callable[[str, int], None]) -> Counter[str]:
    """Have rivals answer each flow's question at once; checks the losers' words and counts them."""
    said: Counter[str] = Counter()

    def attempt(key: str, rival: int) -> str:
        try:
            answer(key, rival)
        except Conflict as conflict:
            return str(conflict)
        return ""

    with ThreadPoolExecutor(RIVALS) as pool:
        for key in keys:
            words = list(pool.map(attempt, [key] * RIVALS, range(RIVALS)))
            assert words.count("") == 1, f"one of {RIVALS} answers counts: {words}"
            for word in filter(None, words):
                known = "was answered by message 1 from" in word
                assert known or "completed" in word or "no open interrupt" in word, word
                said["knows who" if known else "knows that"] += 1
    return said


def check(api: Any, keys: list[str]) -> None:
    for key in keys:
        outcome = api.wait(key, timeout=20)
        assert outcome.status == "completed"
        assert outcome.state["answer"] in range(RIVALS)
        kinds = [event.kind for step in api.history(key) for event in step.events]
        assert kinds.count("resolved") == 1


def test_one_of_many_answers_to_a_named_question_wins_and_the_others_learn_who(url: str) -> None:
    with Engine(app, url) as engine:
        keys = engine.create_many("ask", [{"n": 1}] * ROUNDS)
        ids = {key: engine.wait(key, timeout=20).interrupts[0].interrupt_id for key in keys}
        said = race(keys, lambda key, rival: engine.resume(key, rival, interrupt_id=ids[key]))
        check(engine, keys)
    assert said == {"knows who": ROUNDS * (RIVALS - 1)}


def test_one_of_many_answers_without_a_name_wins(url: str) -> None:
    with Engine(app, url) as engine:
        keys = engine.create_many("ask", [{"n": 1}] * ROUNDS)
        for key in keys:
            engine.wait(key, timeout=20)
        race(keys, engine.resume)
        check(engine, keys)


def test_clients_race_for_the_questions_of_an_engine_in_another_process(
    url: str, start_host: Callable[..., Host]
) -> None:
    host = start_host(["-m", "tests.flows.client_app", url])
    host.wait_for_output("engine runs")
    with Client(None, url) as first, Client(None, url) as second:
        keys = first.create_many("ask", [{"n": 1}] * 50)
        ids = {key: first.wait(key, timeout=20).interrupts[0].interrupt_id for key in keys}
        said = race(
            keys,
            lambda key, rival: (first, second)[rival % 2].resume(key, rival, interrupt_id=ids[key]),
        )
        check(second, keys)
    assert said == {"knows who": 50 * (RIVALS - 1)}
