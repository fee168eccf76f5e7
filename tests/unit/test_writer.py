"""The writer: nothing lost in an outage, an offender alone, calls between batches."""

import threading
from concurrent.futures import CancelledError

import pytest

from penstock.errors import EngineUnavailable
from penstock.runtime.writer import PUT_OFF_S, Writer
from penstock.store import Outage, RefusedRow
from penstock.store.batch import Committed, Fenced

DEADLINE_S = 10.0


class UnitsBatch:
    """A batch that is nothing but the numbers of its units."""

    def __init__(self, *units):
        self.units = units

    def split(self):
        middle = len(self.units) // 2
        return (UnitsBatch(*self.units[:middle]), UnitsBatch(*self.units[middle:])) if middle else None


class FakeStore:
    """Answers as it is told, then commits."""

    def __init__(self, *answers, poison=()):
        self.answers = list(answers)
        self.poison = set(poison)
        self.tried = []

    def now(self):
        return 7

    def commit(self, batch):
        self.tried.append(batch.units)
        answer = self.answers.pop(0) if self.answers else Committed()
        if isinstance(answer, Exception):
            raise answer
        if self.poison.intersection(batch.units):
            raise RefusedRow("NUL in a string")
        return answer


class FakeCore:
    """Has some batches and remembers what became of them."""

    def __init__(self, *batches):
        self.batches = list(batches)
        self.log = []

    def take_batch(self):
        return self.batches.pop(0) if self.batches else None

    def committed(self, batch, refused_units, now_ms):
        self.log.append(("committed", batch.units, refused_units))
        return ("report", batch.units)

    def refuse(self, batch, message):
        self.log.append(("refused", batch.units, message))


def writer_of(store, core):
    reports, fenced = [], []
    writer = Writer(store, core, reports.append, fenced.append)
    return writer, reports, fenced


def drain(writer):
    while writer.run_once() is not None:
        pass


def test_batches_are_committed_one_after_the_other():
    core = FakeCore(UnitsBatch(1), UnitsBatch(2))
    writer, reports, _ = writer_of(FakeStore(), core)
    drain(writer)
    assert reports == [("report", (1,)), ("report", (2,))]


def test_the_core_learns_which_units_were_left_out():
    core = FakeCore(UnitsBatch(1, 2))
    writer, _, _ = writer_of(FakeStore(Committed((2,))), core)
    drain(writer)
    assert core.log == [("committed", (1, 2), [2])]


def test_a_batch_that_met_an_outage_is_tried_again_unchanged():
    store = FakeStore(Outage("away"), Outage("away"))
    core = FakeCore(UnitsBatch(1), UnitsBatch(2))
    writer, _, _ = writer_of(store, core)
    for _ in range(2):
        with pytest.raises(Outage):
            writer.run_once()
    drain(writer)
    assert store.tried == [(1,), (1,), (1,), (2,)]
    assert core.log == [("committed", (1,), []), ("committed", (2,), [])]


def test_a_refused_row_stands_alone_in_the_end_and_the_others_are_committed():
    core = FakeCore(UnitsBatch(*range(8)), UnitsBatch(9))
    writer, _, _ = writer_of(FakeStore(poison={5}), core)
    drain(writer)
    assert ("refused", (5,), "NUL in a string") in core.log
    committed = [unit for kind, units, _ in core.log if kind == "committed" for unit in units]
    assert committed == [0, 1, 2, 3, 4, 6, 7, 9]


def test_a_fenced_replica_drops_what_it_took():
    core = FakeCore(UnitsBatch(1))
    writer, reports, fenced = writer_of(FakeStore(Fenced(3)), core)
    drain(writer)
    assert (reports, fenced, core.log) == ([], [Fenced(3)], [])


def test_a_unit_that_is_left_out_again_and_again_neither_spins_nor_holds_up_a_stop():
    class Stubborn(FakeCore):
        def committed(self, batch, refused_units, now_ms):
            self.batches.append(batch)

    store = FakeStore(*(Committed((1,)) for _ in range(100_000)))
    writer, _, _ = writer_of(store, Stubborn(UnitsBatch(1)))
    assert writer.run_once() == PUT_OFF_S
    writer.start()
    assert writer.stop(DEADLINE_S)
    assert len(store.tried) < 100


def test_calls_run_on_the_writer_s_thread_and_hand_back_what_they_made():
    writer, _, _ = writer_of(FakeStore(), FakeCore())
    writer.start()
    assert writer.run(lambda: threading.current_thread().name).result(DEADLINE_S) == "penstock-writer"
    with pytest.raises(ZeroDivisionError):
        writer.run(lambda: 1 // 0).result(DEADLINE_S)
    writer.stop()


def test_a_call_to_a_writer_that_does_not_run_is_refused():
    writer, _, _ = writer_of(FakeStore(), FakeCore())
    with pytest.raises(EngineUnavailable):
        writer.run(lambda: None).result(0)
    writer.start()
    writer.stop()
    with pytest.raises(EngineUnavailable):
        writer.run(lambda: None).result(0)


def test_a_cancelled_call_does_not_run():
    writer, _, _ = writer_of(FakeStore(), FakeCore())
    writer.prepare()
    ran = []
    future = writer.run(lambda: ran.append(1))
    assert future.cancel()
    drain(writer)
    with pytest.raises(CancelledError):
        future.result(0)
    assert ran == []


def test_stopping_commits_what_the_core_still_has():
    core = FakeCore(*(UnitsBatch(n) for n in range(5)))
    writer, reports, _ = writer_of(FakeStore(), core)
    writer.start()
    writer.stop()
    assert len(reports) == 5


def test_stopping_in_an_outage_ends_and_answers_every_call():
    store = FakeStore(*(Outage("away") for _ in range(1_000)))
    writer, _, _ = writer_of(store, FakeCore(UnitsBatch(1)))
    writer.start()
    futures = [writer.run(lambda: "done") for _ in range(3)]
    assert writer.stop(DEADLINE_S)
    assert [future.result(0) for future in futures] == ["done"] * 3
