"""A server that goes and comes back, is behind a proxy, or speaks in its own codes."""

import threading

import psycopg
import pytest

from penstock.errors import EngineUnavailable
from penstock.store import Outage, open_store
from penstock.store.dialects.postgresql import connections
from penstock.store.dialects.postgresql.failures import is_of_the_row
from penstock.store.rows import NewFlow, Sent
from tests.store.fakes import DONE, event, fid, flow_row, live_row
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs("postgresql")


def test_a_crash_of_the_server_under_load_loses_nothing_that_was_acknowledged(open_another, database):
    if not database.server.can_restart:
        pytest.skip("the server is somebody else's")
    store = open_another(None)
    store.register()
    acknowledged, outages = [], []
    enough = threading.Event()
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            batch = event(fid(number), 1)
            while not stop.is_set():
                try:
                    assert store.commit(batch) == DONE
                except Outage as outage:
                    outages.append(outage)
                else:
                    acknowledged.append(number)
                    break
            if number > 50:
                enough.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert enough.wait(20)
    database.server.restart()
    before = len(acknowledged)
    eventually(lambda: len(acknowledged) > before + 50, what="commits after the restart")
    stop.set()
    writer.join()
    assert outages
    assert [bool(store.journal(fid(n))) for n in acknowledged] == [True] * len(acknowledged)
    assert store.renew_lease(15_000)
    assert store.look()


def test_a_server_that_cannot_be_reached_is_named(tmp_path):
    with pytest.raises(EngineUnavailable, match=f"flows at {tmp_path} cannot be used"):
        open_store(f"postgresql://ada@/flows?host={tmp_path}")


@pytest.mark.parametrize(("is_direct", "count"), [(True, 1), (False, 0)])
def test_statements_are_prepared_only_where_no_proxy_stands_between(
    open_another, monkeypatch, is_direct, count
):
    """Behind a proxy that pools by transaction every statement may meet another server process."""
    monkeypatch.setattr(connections, "_is_direct", lambda driver: is_direct)
    store = open_another()
    store.register()
    for number in range(1, 8):
        store.commit(event(fid(number), 1))
    driver = store._commits._line.open()
    prepared = connections.run(
        driver, "SELECT count(*) FROM pg_prepared_statements WHERE strpos(statement, 'new_journal') > 0"
    )
    assert prepared.fetchone() == (count,)
    setting = connections.run(driver, "SELECT current_setting('enable_seqscan')").fetchone()
    assert setting == ("off" if is_direct else "on",)


def test_a_direct_connection_is_known_as_one(store):
    assert connections._is_direct(store._writer.open())


def test_a_process_without_an_engine_creates_sends_and_reads(store, open_another):
    client = open_another()
    assert client.create([NewFlow(flow_row(fid(1)), live_row(fid(1)), idempotency_key="k")])[0].is_new
    assert client.send(fid(1), "cancel", "{}") == Sent(1)
    assert client.outcome(fid(1)).status == "running"
    assert [claim.flow_id for claim in store.claim(0)] == [fid(1)]


@pytest.mark.parametrize(
    ("state", "is_row"),
    [
        ("22021", True),
        ("23505", True),
        ("54000", True),
        ("40P01", False),
        ("53100", False),
        ("57P01", False),
        ("25006", False),
        ("42P01", False),
    ],
)
def test_what_a_row_holds_is_told_from_what_may_pass(state, is_row):
    assert is_of_the_row(psycopg.errors.lookup(state)("no")) is is_row


def test_the_clock_is_the_database_s(open_another, database):
    store = open_another(None)
    (before,) = database.rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8")[0]
    now = store.now()
    (after,) = database.rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8")[0]
    assert before - 50 <= now <= after + 50


def test_the_writer_renews_a_lease_that_the_heartbeat_is_late_with(store, clock, rows):
    clock.ms += 5_001
    store.commit(event(fid(1), 1))
    (first,) = rows("SELECT lease_until FROM penstock_leases")[0]
    clock.ms += 5_000
    store.commit(event(fid(1), 2))
    (second,) = rows("SELECT lease_until FROM penstock_leases")[0]
    assert second == clock.ms + 15_000 > first
