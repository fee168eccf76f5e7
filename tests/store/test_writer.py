"""The writer over a real database."""

import threading
from concurrent.futures import wait

import pytest

from penstock.runtime.writer import Writer
from penstock.store.rows import NewFlow
from tests.store.fakes import created, event, fid, flow_row, live_row, merge

DEADLINE_S = 20.0


class Core:
    """Collects batches as threads add them, merged as the real one does, and what became of them."""

    def __init__(self):
        self._lock = threading.Lock()
        self._parts = []
        self.refused = []
        self.committed_units = 0
        self.is_idle = threading.Event()

    def add(self, batch):
        with self._lock:
            self._parts.append(batch)

    def take_batch(self):
        with self._lock:
            parts, self._parts = self._parts, []
        return merge(*parts) if parts else None

    def committed(self, batch, refused_units, now_ms):
        self.committed_units += len(batch.units_present()) - len(refused_units)

    def refuse(self, batch, message):
        self.refused.append((batch.journal[0][0], message))


@pytest.fixture
def core():
    return Core()


@pytest.fixture
def refuse_bad_bodies(database):
    """Until the test's end the journal takes no `"bad"`."""
    if database.kind == "postgresql":
        database.execute(
            """ALTER TABLE penstock_journal ADD CONSTRAINT "not in this house" CHECK (body <> '"bad"') NOT VALID"""
        )
        yield
        database.execute('ALTER TABLE penstock_journal DROP CONSTRAINT "not in this house"')
    else:
        database.execute(
            "CREATE TRIGGER no AFTER INSERT ON penstock_journal WHEN new.body = '\"bad\"'"
            " BEGIN SELECT RAISE(ABORT, 'not in this house'); END"
        )
        yield


@pytest.fixture
def writer(store, core):
    writer = Writer(store, core, lambda report: None, lambda fenced: None)
    writer.start()
    yield writer
    writer.stop()


def test_a_row_that_is_refused_is_isolated_and_the_others_stand(store, core, writer, refuse_bad_bodies):
    bad = {17, 18, 60}
    core.add(merge(*(event(fid(n), 1, body='"bad"' if n in bad else "{}") for n in range(100))))
    writer.wake()
    writer.stop()
    assert {int.from_bytes(flow_id) for flow_id, _ in core.refused} == bad
    assert all("not in this house" in message for _, message in core.refused)
    assert [bool(store.journal(fid(n))) for n in range(100)] == [n not in bad for n in range(100)]


def test_many_threads_write_beside_the_batches(store, core, writer, rows):
    threads, per_thread = 16, 20

    def work(thread):
        futures = []
        for n in range(per_thread):
            number = thread * per_thread + n + 1
            core.add(event(fid(number), 1))
            writer.wake()
            new = NewFlow(flow_row(fid(number)), live_row(fid(number)))
            futures.append(writer.run(lambda new=new: store.create([new])))
            futures.append(writer.run(lambda number=number: store.send(fid(number), "signal", "{}")))
            store.look()
            store.outcome(fid(number))
        assert not wait(futures, DEADLINE_S).not_done
        assert all(future.result(0) for future in futures)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE_S)
    writer.stop()
    total = threads * per_thread
    for table in ("journal", "flows", "live", "inbox"):
        assert rows(f"SELECT count(*) FROM penstock_{table}") == [(total,)]
    assert core.committed_units == total


@pytest.mark.needs("sqlite")
def test_a_database_that_is_locked_for_a_while_loses_nothing(store, core, writer, path, monkeypatch):
    import sqlite3

    from penstock.runtime import service

    monkeypatch.setattr(service, "FIRST_REST_S", 0.001)
    with store._writing() as conn:
        conn.exec_driver_sql("PRAGMA busy_timeout = 1")
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    met = threading.Event()
    commit = store.commit

    def watched(batch):
        try:
            return commit(batch)
        finally:
            met.set()

    monkeypatch.setattr(store, "commit", watched)
    core.add(created(fid(1)))
    writer.wake()
    assert met.wait(DEADLINE_S)
    assert core.committed_units == 0
    holder.execute("ROLLBACK")
    holder.close()
    # Answered once the writer got through its batch or failed again; either way the batch comes before the stop.
    writer.run(lambda: None).result(DEADLINE_S)
    writer.stop()
    assert core.committed_units == 1
    assert store.outcome(fid(1)) is not None
