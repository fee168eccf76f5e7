"""How a client looks for what it waits for: soon, then seldom, and not at all while nobody waits."""

from __future__ import annotations

from typing import Any, cast

from penstock.runtime.waiters import SHUT, Waiter, Waiters
from penstock.runtime.watcher import LONGEST_WAIT_S, SHORTEST_WAIT_S, Watcher
from penstock.store import Store


class CountingStore:
    """A store in which nothing ever stops, and which counts how often it is asked."""

    def __init__(self) -> None:
        self.looks = 0

    def outcomes(self, flow_ids: Any) -> dict[bytes, Any]:
        self.looks += 1
        return {}


def make() -> tuple[CountingStore, Waiters, Watcher]:
    store = CountingStore()
    waiters = Waiters(cast("Store", store), lambda _: ())
    return store, waiters, Watcher(waiters)


def test_nothing_is_looked_for_while_nobody_waits() -> None:
    store, _, watcher = make()
    watcher.poke()
    assert watcher.run_once() is None
    assert store.looks == 0


def test_looks_become_ever_more_seldom_and_a_new_wait_makes_them_frequent_again() -> None:
    store, waiters, watcher = make()
    waiters.stopped.add(b"flow")
    watcher.poke()
    rests = [watcher.run_once() for _ in range(12)]
    assert rests == sorted(rests, key=lambda rest: rest or 0)
    assert rests[-1] == LONGEST_WAIT_S
    assert store.looks == 12
    watcher.poke()
    rest = watcher.run_once()
    assert rest is not None
    assert SHORTEST_WAIT_S <= rest < LONGEST_WAIT_S


def test_one_look_serves_all_who_wait() -> None:
    store, waiters, watcher = make()
    for number in range(1_000):
        waiters.stopped.add(number.to_bytes(16, "big"))
    watcher.run_once()
    assert store.looks == 1


def test_a_callback_is_called_whether_it_comes_before_or_after_the_word() -> None:
    told = []
    early, late = Waiter(), Waiter()
    early.on_set(lambda: told.append("early"))
    assert told == []
    early.set(1)
    late.set(2)
    late.on_set(lambda: told.append("late"))
    assert told == ["early", "late"]
    early.set(3)
    assert early.value == 1


def test_the_end_is_told_to_everybody() -> None:
    _, waiters, _ = make()
    waits = [waiters.stopped.add(b"flow"), waiters.stopped.add(b"other")]
    waiters.close()
    assert all(wait.wait(0) and wait.value is SHUT for wait in waits)
    assert waiters.is_idle
