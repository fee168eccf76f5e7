"""Two or more who want different things of one flow at once: one wins, and the others are told what won."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from penstock import App, Client, Engine, Flow
from penstock.errors import Conflict, NotFound
from penstock.operations.facade import Operations
from tests.support.databases import Database
from tests.support.waiting import eventually

app = App("races")

ROUNDS = 200


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt()}


app.graph("double").chain(double)
app.graph("ask").chain(ask)


@pytest.fixture
def both(database: Database) -> Iterator[tuple[Operations, Operations]]:
    """The owner of the flows, and a client beside it."""
    with Engine(app, database.url) as engine, Client(app, database.url) as client:
        yield engine, client


class Race:
    """Rivals that start at once, round after round."""

    def __init__(self, rivals: int) -> None:
        self._rivals = rivals
        self._line = Barrier(rivals)
        self._pool = ThreadPoolExecutor(rivals)

    def __enter__(self) -> Race:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(self, *wishes: Callable[[], Any]) -> list[Any]:
        """What each wish gave: its answer, or the refusal."""
        assert len(wishes) == self._rivals

        def attempt(wish: Callable[[], Any]) -> Any:
            self._line.wait()
            try:
                return wish()
            except (Conflict, NotFound) as refusal:
                return refusal

        return list(self._pool.map(attempt, wishes))


def alternately(both: tuple[Operations, Operations]) -> Iterator[tuple[Operations, Operations]]:
    """Who is first and who second, each as often in either process's place."""
    return itertools.islice(itertools.cycle([both, both[::-1]]), ROUNDS)


def test_of_many_creations_with_one_idempotency_key_there_is_one_flow(
    both: tuple[Operations, Operations],
) -> None:
    with Race(4) as race:
        for number, (first, second) in enumerate(alternately(both)):
            unique = f"once {number}"
            keys = race.run(
                *(
                    lambda ops=ops: ops.create("double", {"n": 1}, idempotency_key=unique)  # noqa: B023
                    for ops in (first, first, second, second)
                )
            )
            assert len(set(keys)) == 1, keys
    engine = both[0]
    assert len(engine.list(limit=1_000).items) == ROUNDS


def test_of_many_creations_with_one_business_key_one_wins_and_the_others_are_told_who(
    both: tuple[Operations, Operations],
) -> None:
    with Race(4) as race:
        for first, second in alternately(both):
            answers = race.run(
                *(
                    lambda ops=ops: ops.create("ask", business_key="one")
                    for ops in (first, first, second, second)
                )
            )
            (winner,) = [answer for answer in answers if isinstance(answer, str)]
            assert all(winner in str(answer) for answer in answers)
            first.cancel(winner)
            eventually(lambda: first.wait(winner).status == "cancelled", what="the end of the winner")  # noqa: B023


def test_of_a_deletion_and_an_answer_one_wins_and_the_other_hears_it(
    both: tuple[Operations, Operations],
) -> None:
    """Never is a flow cancelled that somebody has answered."""
    won: Counter[str] = Counter()
    keys = iter(both[0].create_many("ask", [{}] * ROUNDS))
    with Race(2) as race:
        for (first, second), key in zip(alternately(both), keys, strict=True):
            first.wait(key, timeout=20)
            deleted, answered = race.run(
                lambda: first.delete(key),  # noqa: B023
                lambda: second.resume(key, 1),  # noqa: B023
            )
            if answered is None:
                won["answer"] += 1
                if deleted is None:
                    # It came when the answered flow had ended, which a deletion may.
                    with pytest.raises(NotFound):
                        first.snapshot(key)
                else:
                    assert isinstance(deleted, Conflict)
                    assert key in str(deleted)
                    assert first.wait(key, timeout=20).state == {"answer": 1}
            else:
                won["deletion"] += 1
                assert deleted is None
                assert isinstance(answered, NotFound) or "is cancelled" in str(answered), answered
                with pytest.raises(NotFound):
                    first.snapshot(key)
    assert sum(won.values()) == ROUNDS


def test_of_a_purge_and_a_restart_one_wins_and_the_other_hears_it(
    both: tuple[Operations, Operations], database: Database
) -> None:
    """A flow that was restarted is there and runs; one that was purged has left nothing."""
    won: Counter[str] = Counter()
    keys = both[0].create_many("double", [{"n": n} for n in range(ROUNDS)])
    with Race(2) as race:
        for (first, second), key in zip(alternately(both), keys, strict=True):
            first.wait(key, timeout=20)
            purged, restarted = race.run(
                lambda: first.purge(status="completed", thread=key),  # noqa: B023
                lambda: second.restart(key, {"n": 50}),  # noqa: B023
            )
            if restarted is None:
                won["restart"] += 1
                if purged == 0:
                    assert first.wait(key, timeout=20).state == {"n": 100}
                    assert first.purge(thread=key) == 1
            else:
                won["purge"] += 1
                assert purged == 1
                assert isinstance(restarted, NotFound), restarted
                assert key in str(restarted)
            with pytest.raises(NotFound):
                second.snapshot(key)
    assert sum(won.values()) == ROUNDS
    for table in ("flows", "live", "journal"):
        assert database.rows(f"SELECT count(*) FROM penstock_{table}") == [(0,)], table


def test_of_going_on_and_a_cancel_the_flow_heeds_both_and_the_later_one_hears_it(
    both: tuple[Operations, Operations],
) -> None:
    ends: Counter[str] = Counter()
    keys = both[0].create_many("double", [{"n": n} for n in range(ROUNDS)], hold=True)
    with Race(2) as race:
        for number, ((first, second), key) in enumerate(zip(alternately(both), keys, strict=True)):
            released, cancelled = race.run(
                lambda: first.unpause(key),  # noqa: B023
                lambda: second.cancel(key, "enough"),  # noqa: B023
            )
            outcome = first.wait(key, timeout=20)
            ends[outcome.status] += 1
            if cancelled is None:
                assert (outcome.status, outcome.cancel_reason) == ("cancelled", "enough")
                assert released is None or 'is cancelled ("enough")' in str(released), released
            else:
                assert "is completed" in str(cancelled)
                assert released is None
                assert (outcome.status, outcome.state) == ("completed", {"n": 2 * number})
    assert sum(ends.values()) == ROUNDS
    assert ends["cancelled"] > 0
