"""The database's clock, as a process far from it sees it."""

from penstock.store.clock import Clock, DatabaseClock

MS = 1_000_000


class Ticks:
    """The process's own clock."""

    def __init__(self) -> None:
        self.ns = 1_000 * MS

    def __call__(self) -> int:
        return self.ns


def observe(clock: DatabaseClock, ticks: Ticks, database_ms: int, way_ms: int) -> None:
    asked = ticks.ns
    ticks.ns += way_ms * MS
    clock.observe(asked, database_ms, ticks.ns)


def test_an_answer_was_given_half_way() -> None:
    ticks = Ticks()
    clock = DatabaseClock(ticks)
    observe(clock, ticks, 50_000, way_ms=10)
    assert clock() == 50_005
    ticks.ns += 7 * MS
    assert clock() == 50_012


def test_the_shortest_way_is_believed() -> None:
    ticks = Ticks()
    clock = DatabaseClock(ticks)
    observe(clock, ticks, 50_000, way_ms=2)
    observe(clock, ticks, 99_000, way_ms=40)
    assert clock() == 50_041
    observe(clock, ticks, 50_041, way_ms=0)
    assert clock() == 50_041


def test_an_old_answer_gives_way_to_a_new_one() -> None:
    ticks = Ticks()
    clock = DatabaseClock(ticks)
    observe(clock, ticks, 50_000, way_ms=2)
    ticks.ns += 301_000 * MS
    observe(clock, ticks, 360_000, way_ms=40)
    assert clock() == 360_020


def test_a_correction_backwards_does_not_turn_time_back() -> None:
    ticks = Ticks()
    estimate = DatabaseClock(ticks)
    clock = Clock(estimate)
    observe(estimate, ticks, 50_000, way_ms=4)
    assert clock.now() == 50_002
    observe(estimate, ticks, 49_000, way_ms=0)
    assert clock.now() == 50_002
