"""Whose flow it is: the fence, death, release, and claims whose answer is lost (F1, F3, F4, S1, S3, S26)."""

import os
import signal
import subprocess
import sys

import pytest

from penstock.errors import EngineUnavailable
from penstock.store.batch import Committed, Fenced
from penstock.store.dialects.postgresql.connections import Line, run
from tests.store.fakes import DONE, T0, created, event, fid, merge, message, released, stopped
from tests.store.postgresql.conftest import Aside
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs("postgresql")

LEASE_MS = 15_000


def lapse(store, clock):
    """Time goes on: this replica renews its lease every third of it, and no other does."""
    for _ in range(4):
        clock.ms += LEASE_MS // 3
        assert store.renew_lease(LEASE_MS)


def open_batch(database, store, flow):
    """A batch of *store* that was sent without its Sync: the fence is held and the transaction stays open."""
    connection = database.connect()
    connection.execute("BEGIN")
    connection.execute(
        f"SELECT 1 FROM penstock_replicas WHERE replica_id = {store.replica_id} AND dead_at IS NULL FOR KEY SHARE"
    )
    connection.execute(
        "INSERT INTO penstock_journal (flow_id, ord, step, node, event, attempt, replica, at, body)"
        f" VALUES ('{flow.hex()}', 1, 1, 'n', 'done', 0, {store.replica_id}, 1, 'late')"
    )
    return connection


# --- F1 ---


def test_a_death_is_declared_after_an_open_batch_never_during_it(
    replicas, database, clock, until_blocked, rows
):
    dead, declarer = replicas
    lapse(declarer, clock)
    with open_batch(database, dead, fid(1)) as batch:
        declaring = Aside(declarer.declare_dead)
        until_blocked("FOR UPDATE")
        assert rows("SELECT count(*) FROM penstock_replicas WHERE dead_at IS NOT NULL") == [(0,)]
        batch.execute("COMMIT")
        assert declaring.answer() == [dead.replica_id]
    assert [row.body for row in declarer.journal(fid(1))] == ["late"]
    assert dead.commit(event(fid(1), 2)) == Fenced(dead.replica_id)
    assert dead.claim(9) == Fenced(dead.replica_id)
    assert not dead.renew_lease(LEASE_MS)


def test_a_batch_that_waits_for_a_declaration_is_fenced(replicas, database, until_blocked, rows):
    dead, _ = replicas
    with database.connect() as declarer:
        declarer.execute("BEGIN")
        declarer.execute(f"SELECT 1 FROM penstock_replicas WHERE replica_id = {dead.replica_id} FOR UPDATE")
        committing = Aside(lambda: dead.commit(event(fid(1), 1)))
        until_blocked("FOR KEY SHARE")
        declarer.execute(f"UPDATE penstock_replicas SET dead_at = 1 WHERE replica_id = {dead.replica_id}")
        declarer.execute("COMMIT")
        assert committing.answer() == Fenced(dead.replica_id)
    assert rows("SELECT * FROM penstock_journal") == []


def test_a_claim_that_was_under_way_when_its_replica_died_is_released(
    replicas, database, clock, until_blocked, rows
):
    dead, declarer = replicas
    declarer.commit(created(fid(1)))
    lapse(declarer, clock)
    with database.connect() as claim:
        claim.execute("BEGIN")
        claim.execute(f"SELECT 1 FROM penstock_replicas WHERE replica_id = {dead.replica_id} FOR KEY SHARE")
        claim.execute(f"UPDATE penstock_live SET owner = {dead.replica_id}, claims = 1")
        declaring = Aside(declarer.declare_dead)
        until_blocked("FOR UPDATE")
        claim.execute("COMMIT")
        assert declaring.answer() == [dead.replica_id]
    assert declarer.release_dead() == 1
    assert rows("SELECT owner, claims, crashes FROM penstock_live") == [(None, 1, 1)]


def test_what_a_declarer_did_not_come_to_release_another_one_does(replicas, open_another, clock, rows):
    dead, declarer = replicas
    dead.commit(merge(*(created(fid(n), dead.replica_id) for n in range(1_100))))
    lapse(declarer, clock)
    assert declarer.declare_dead() == [dead.replica_id]
    declarer.close()
    third = open_another()
    third.register()
    counts = []
    while count := third.release_dead():
        counts.append(count)
    assert (sum(counts), len(counts)) == (1_100, 3)
    assert rows("SELECT count(*) FROM penstock_live WHERE owner IS NULL AND crashes = 1") == [(1_100,)]
    assert dead.replica_id not in [row.replica_id for row in third.replicas()]
    assert rows("SELECT count(*) FROM penstock_leases") == [(2,)]


def test_a_chunk_that_meets_a_locked_row_leaves_it_for_the_next(replicas, hold, execute, rows):
    dead, living = replicas
    dead.commit(merge(created(fid(1), dead.replica_id), created(fid(2), dead.replica_id)))
    execute(f"UPDATE penstock_replicas SET dead_at = 1 WHERE replica_id = {dead.replica_id}")
    with hold(f"SELECT 1 FROM penstock_live WHERE flow_id = '{fid(1).hex()}' FOR UPDATE"):
        assert living.release_dead() == 1
        assert living.release_dead() == 0
        assert dead.replica_id in [row.replica_id for row in living.replicas()]
    assert living.release_dead() == 1


def test_a_replica_that_comes_back_is_a_stranger_and_inherits_nothing(replicas, clock, rows):
    late, other = replicas
    late.commit(merge(created(fid(1), late.replica_id), event(fid(1), 1)))
    former = late.replica_id
    lapse(other, clock)
    assert other.declare_dead() == [former]
    assert late.commit(event(fid(1), 2)) == Fenced(former)
    assert late.register() > other.replica_id
    # The declarer's next chunk names the former id, so it cannot meet what is claimed under the new one.
    assert other.release_dead() == 1
    (claim,) = late.claim(9)
    assert (claim.flow_id, claim.claims) == (fid(1), 2)
    assert other.release_dead() == 0
    assert late.owned() == {fid(1): 2}
    assert late.commit(event(fid(1), 2)) == DONE


NAMED = """
import sys
from penstock.store import open_store
from tests.store.fakes import created, fid
store = open_store(sys.argv[1])
store.register(name="ada")
store.commit(created(fid(1), store.replica_id))
print("in", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def named_engine(database):
    engine = subprocess.Popen(
        [sys.executable, "-c", NAMED, database.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert engine.stdout.readline() == b"in\n"
    yield engine
    engine.kill()
    engine.wait()
    engine.stdin.close()
    engine.stdout.close()


def test_a_named_engine_takes_its_flows_back_at_once_when_its_process_is_gone(
    store, open_another, named_engine
):
    os.kill(named_engine.pid, signal.SIGKILL)
    named_engine.wait()
    successor = open_another(None)
    successor.register(name="ada")
    assert [claim.flow_id for claim in successor.claim(9)] == [fid(1)]


def test_a_name_whose_engine_lives_makes_a_start_wait_and_then_says_who_it_is(
    store, open_another, named_engine
):
    with pytest.raises(EngineUnavailable, match=f"'ada' lives.*process {named_engine.pid} on"):
        open_another(None).register(name="ada", lease_ms=200)


def test_a_name_whose_lease_has_lapsed_is_taken_over(open_another, execute, clock):
    first, second = open_another(), open_another()
    first.register(name="ada")
    first.commit(created(fid(1), first.replica_id))
    execute("UPDATE penstock_replicas SET host = 'elsewhere'")
    clock.ms += LEASE_MS + 1
    second.register(name="ada")
    assert first.commit(event(fid(1), 1)) == Fenced(first.replica_id)
    assert len(second.claim(9)) == 1


def test_of_two_that_start_under_one_name_one_waits_for_the_other(open_another, database, until_blocked):
    first, second = open_another(), open_another()
    first.register(name="bob")
    first.leave()
    with database.connect() as lock:
        lock.execute("BEGIN")
        lock.execute("LOCK TABLE penstock_replicas IN SHARE ROW EXCLUSIVE MODE")
        starts = [Aside(lambda s=s: s.register(name="ada", lease_ms=300)) for s in (first, second)]
        until_blocked("SHARE ROW EXCLUSIVE")
        lock.execute("COMMIT")
    outcomes = []
    for start in starts:
        try:
            outcomes.append(start.answer() > 0)
        except EngineUnavailable:
            outcomes.append(False)
    assert sorted(outcomes) == [False, True]


# --- F3 ---


def test_a_claim_whose_answer_was_lost_shows_in_what_the_database_says_is_owned(store, rows):
    store.commit(merge(created(fid(1)), created(fid(2), store.replica_id)))
    claims = store.claim(9)
    del claims  # the answer never came
    assert store.owned() == {fid(1): 1, fid(2): 1}
    row = next(row for row in store.replicas() if row.replica_id == store.replica_id)
    assert row.owned == 2


# --- F4 ---


def test_a_delayed_copy_of_a_release_does_not_touch_the_next_claim(store, rows):
    me = store.replica_id
    store.commit(created(fid(1), me))
    release = released(fid(1), me)
    assert store.commit(release) == DONE
    store.send(fid(1), "signal", "{}")
    (claim,) = store.claim(0)
    assert claim.claims == 2
    answer = store.commit(released(fid(1), me, mail=1))
    assert (answer, answer.foreign) == (Committed((0,)), (fid(1),))
    assert rows("SELECT owner, claims FROM penstock_live") == [(me, 2)]


def test_the_number_of_the_next_claim_tells_whether_anybody_owned_it_in_between(replicas, clock, execute):
    first, second = replicas
    first.commit(created(fid(1), first.replica_id))
    first.commit(released(fid(1), first.replica_id, ready_at=T0))
    (theirs,) = second.claim(1)
    second.commit(released(fid(1), second.replica_id, claims=theirs.claims, ready_at=T0))
    (mine,) = first.claim(1)
    assert mine.claims == 1 + 2


# --- S1 ---


def test_after_an_outage_that_all_leases_lapsed_in_nobody_declares_and_nothing_is_forgotten(
    replicas, clock, rows
):
    first, second = replicas
    first.commit(created(fid(1), first.replica_id))
    clock.ms += 3 * LEASE_MS
    for _ in range(3):
        assert second.renew_lease(LEASE_MS)
        assert second.declare_dead() == []
        clock.ms += LEASE_MS // 3 - 1
    assert first.commit(event(fid(1), 1)) == DONE
    assert first.renew_lease(LEASE_MS)
    assert second.renew_lease(LEASE_MS)
    clock.ms += 3
    assert second.declare_dead() == []
    assert rows("SELECT count(*) FROM penstock_replicas WHERE dead_at IS NOT NULL") == [(0,)]


def test_a_lease_that_is_renewed_while_the_declaration_waits_saves_its_replica(
    replicas, database, clock, until_blocked
):
    slow, declarer = replicas
    lapse(declarer, clock)
    with open_batch(database, slow, fid(1)) as batch:
        declaring = Aside(declarer.declare_dead)
        until_blocked("FOR UPDATE")
        assert slow.renew_lease(LEASE_MS)
        batch.execute("COMMIT")
        assert declaring.answer() == []
    assert slow.commit(event(fid(1), 2)) == DONE


# --- S3 ---


def test_a_declaration_that_waited_long_ends_the_server_process_in_its_way(replicas, database, clock, rows):
    dead, declarer = replicas
    declarer._patience_s = 0.05
    lapse(declarer, clock)
    batch = open_batch(database, dead, fid(1))
    assert declarer.declare_dead() == [dead.replica_id]
    assert rows("SELECT * FROM penstock_journal") == []
    batch.close()


def test_a_batch_leaves_no_transaction_open(store, database):
    store.commit(event(fid(1), 1))
    states = database.rows("SELECT DISTINCT state FROM pg_stat_activity WHERE datname = current_database()")
    assert ("idle in transaction",) not in states


# --- S26 ---


def test_a_flow_is_loaded_as_its_last_owner_left_it(replicas, database, until_blocked):
    """A claim that waited would have a snapshot from before the last owner's commit; loading has one of its own."""
    first, second = replicas
    first.commit(merge(created(fid(1), first.replica_id), event(fid(1), 1)))
    line = Line(second._location)
    with line.transaction("BEGIN ISOLATION LEVEL REPEATABLE READ") as snapshot:
        run(snapshot, "SELECT 1")
        first.commit(
            merge(event(fid(1), 2), message(fid(1)), released(fid(1), first.replica_id, ready_at=T0))
        )
        (claim,) = second.claim(9)
        (row,) = second.load([claim.flow_id])
    assert [entry[0] for entry in row.journal] == [1, 2]
    assert row.mail == 1
    line.drop()


def test_two_replicas_never_claim_the_same_flow(replicas):
    first, second = replicas
    first.commit(merge(*(created(fid(n)) for n in range(400))))
    taken = [Aside(lambda s=s: [s.claim(40) for _ in range(10)]) for s in replicas]
    claims = [claim.flow_id for part in taken for lot in part.answer() for claim in lot]
    assert len(claims) == len(set(claims)) == 400
    assert len(first.owned()) + len(second.owned()) == 400


def test_a_flow_that_ends_leaves_nothing_owned(store):
    store.commit(created(fid(1), store.replica_id))
    store.commit(stopped(fid(1), store.replica_id))
    assert eventually(lambda: store.owned() == {}, what="nothing owned")
