"""The one statement against its neighbours: row operations that meet, locked rows, refusals, lost answers.

F2, F5, F8, F9, S2, S28.
"""

import itertools

import psycopg
import pytest

from penstock.store import LostCommits, Outage, RefusedRow, open_store
from penstock.store.batch import Committed, Fenced
from penstock.store.dialects.postgresql import commit as committing
from penstock.store.dialects.postgresql.commit import PATIENCE_AFTER
from penstock.store.rows import Ended, NewFlow, Sent
from tests.store.fakes import (
    DONE,
    T0,
    FakeBatch,
    created,
    event,
    fid,
    flow_row,
    live_row,
    merge,
    message,
    released,
    stopped,
    verdict,
)
from tests.store.postgresql.conftest import Aside
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs("postgresql")


def locked(flow, strength="UPDATE"):
    return f"SELECT 1 FROM penstock_live WHERE flow_id = '{flow.hex()}' FOR {strength}"


# --- F2: every pair of row operations on one flow in one batch, against SQLite's one after the other ---

OPERATIONS = {
    "message": lambda me, flow: message(flow, '"m"'),
    "another message": lambda me, flow: message(flow, '"n"'),
    "release": lambda me, flow: released(flow, me, mail=2, wake_at=T0 + 50),
    "stop": lambda me, flow: stopped(flow, me, mail=2),
    "calm": lambda me, flow: FakeBatch(calmed=[(flow, me, 1)]),
    "status": lambda me, flow: FakeBatch(statuses=[("interrupted", '["a"]', T0 + 3, flow)]),
    "verdict": lambda me, flow: verdict(flow, 1),
    "another verdict": lambda me, flow: verdict(flow, 2),
    "event": lambda me, flow: event(flow, 1),
    "question": lambda me, flow: FakeBatch(
        interrupts=[(flow, flow, flow, 1, "n", "interrupt", None, None, T0, None)]
    ),
    "answer": lambda me, flow: FakeBatch(interrupt_deletes=[(flow,)]),
}
# The core folds these before: a flow that ended is not released, and has the status of its end.
NEVER = ({"release", "stop"}, {"status", "stop"})
PAIRS = [pair for pair in itertools.permutations(OPERATIONS, 2) if set(pair) not in NEVER]
TABLES = {
    "live": "flow_id, owner IS NULL, claims, crashes, ready_at, wake_at, mail, mail_at IS NULL",
    "flows": "flow_id, status, position, output, stopped_at, updated_at",
    "inbox": "flow_id, seq, body, answered_at, verdict",
    "journal": "flow_id, ord, body",
    "interrupts": "interrupt_id",
}


def written(database):
    return {
        table: [
            tuple(int(value) if isinstance(value, bool) else value for value in row)
            for row in database.rows(f"SELECT {columns} FROM penstock_{table} ORDER BY {columns}")
        ]
        for table, columns in TABLES.items()
    }


def test_two_row_operations_on_one_flow_in_one_batch_do_what_they_do_one_after_the_other(
    database, databases, tmp_path, clock
):
    found = []
    for place in (database, databases.sqlite(tmp_path / "plain.db")):
        store = open_store(place.url, clock)
        store.register()
        me = store.replica_id
        for number, (first, second) in enumerate(PAIRS, 1):
            flow = fid(number)
            store.commit(merge(created(flow, me, crashes=2), event(fid(1_000 + number), 1)))
            store.commit(merge(message(flow), message(flow)))
            both = merge(OPERATIONS[first](me, flow), OPERATIONS[second](me, flow))
            assert store.commit(both) == DONE, (first, second)
        found.append(written(place))
        store.close()
    for table in TABLES:
        assert found[0][table] == found[1][table], table


def test_many_messages_to_one_flow_in_one_batch_are_all_counted(store, rows):
    store.commit(created(fid(1)))
    assert store.commit(merge(*(message(fid(1), str(n)) for n in range(50)))) == DONE
    assert rows("SELECT mail FROM penstock_live") == [(50,)]
    assert rows("SELECT seq, body FROM penstock_inbox ORDER BY seq") == [(n + 1, str(n)) for n in range(50)]


def test_a_message_to_a_flow_that_the_batch_creates_is_there_from_the_first(store, rows):
    assert store.commit(merge(created(fid(1)), message(fid(1)), message(fid(1)))) == DONE
    assert rows("SELECT mail, mail_at FROM penstock_live") == [(2, T0 + 1)]
    assert rows("SELECT seq FROM penstock_inbox ORDER BY seq") == [(1,), (2,)]


def test_all_of_a_batch_in_one_statement(store, database, rows):
    me = store.replica_id
    store.commit(merge(*(created(fid(n), me, crashes=1) for n in range(1, 7))))
    store.commit(merge(message(fid(5)), message(fid(6))))
    batch = merge(
        created(fid(10)),
        *(event(fid(n), 1) for n in range(1, 7)),
        stopped(fid(1), me),
        message(fid(2)),
        released(fid(3), me),
        FakeBatch(calmed=[(fid(4), me, 1)], statuses=[("interrupted", "[]", T0, fid(4))]),
        verdict(fid(5), 1),
        OPERATIONS["question"](me, fid(1)),
        FakeBatch(outbox=[("stop", fid(1), 1, "{}")]),
    )
    assert store.commit(batch) == DONE
    assert rows("SELECT count(*) FROM penstock_journal") == [(6,)]
    assert rows("SELECT count(*) FROM penstock_live") == [(6,)]


# --- F5 ---


def test_a_message_that_came_after_the_batch_was_made_puts_its_release_off(
    store, open_another, hold, until_blocked, rows
):
    """The statement has its snapshot when the message comes, and meets it all the same."""
    me = store.replica_id
    store.commit(merge(created(fid(1), me), created(fid(2), me)))
    with hold(f"SELECT 1 FROM penstock_replicas WHERE replica_id = {me} FOR UPDATE") as fence:
        batch = merge(released(fid(1), me), stopped(fid(2), me))
        release = Aside(lambda: store.commit(batch))
        until_blocked("FOR KEY SHARE")
        assert open_another().send(fid(1), "cancel", "{}") == Sent(1)
        fence.execute("COMMIT")
        assert release.answer() == Committed((batch.unit(fid(1)),))
    assert rows("SELECT flow_id, owner, mail, mail_at IS NULL FROM penstock_live") == [(fid(1), me, 1, False)]


def test_a_message_that_came_beside_a_verdict_stays_unread(store, open_another, hold, until_blocked, rows):
    me = store.replica_id
    store.commit(created(fid(1), me))
    store.commit(message(fid(1)))
    with hold(f"SELECT 1 FROM penstock_replicas WHERE replica_id = {me} FOR UPDATE") as fence:
        answer = Aside(lambda: store.commit(verdict(fid(1), 1)))
        until_blocked("FOR KEY SHARE")
        open_another().send(fid(1), "cancel", "{}")
        fence.execute("COMMIT")
        assert answer.answer() == DONE
    assert rows("SELECT mail, mail_at IS NULL FROM penstock_live") == [(2, False)]
    assert [seq for seq, _, _ in store.read_mail({fid(1): 1})[0].messages] == [2]


def test_a_message_and_a_stop_meet_and_one_of_them_is_told(store, open_another, hold, until_blocked):
    me = store.replica_id
    store.commit(created(fid(1), me))
    sender = open_another()
    with hold(f"{locked(fid(1))}"):
        sending = Aside(lambda: sender.send(fid(1), "cancel", "{}"))
        until_blocked("penstock_live SET mail")
        assert store.commit(stopped(fid(1), me)) == Committed((0,))
    assert sending.answer() == Sent(1)
    assert store.commit(stopped(fid(1), me)) == Committed((0,))
    assert store.commit(stopped(fid(1), me, mail=1)) == DONE
    assert sender.send(fid(1), "cancel", "{}") == Ended("completed")


def test_two_who_send_to_one_flow_have_two_numbers(store, open_another):
    store.commit(created(fid(1)))
    senders = [open_another() for _ in range(4)]
    sent = [Aside(lambda s=s: [s.send(fid(1), "signal", "{}").seq for _ in range(25)]) for s in senders]
    numbers = list(itertools.chain.from_iterable(part.answer() for part in sent))
    assert sorted(numbers) == list(range(1, 101))


# --- F8 ---


@pytest.mark.parametrize(
    "batch",
    [
        event(fid(2), 1, body="a NUL \0 in it"),
        FakeBatch(flows=[flow_row(fid(2), workflow="x" * 300)], live=[live_row(fid(2))]),
        FakeBatch(flows=[flow_row(fid(2), fairness_key="x" * 20_000)], live=[live_row(fid(2))]),
        FakeBatch(flows=[flow_row(fid(2), trace_parent="x" * 256)], live=[live_row(fid(2))]),
    ],
    ids=["NUL", "long name", "long key", "long trace"],
)
def test_a_row_that_the_database_refuses_is_a_refusal_and_not_an_outage(store, rows, batch):
    with pytest.raises(RefusedRow):
        store.commit(merge(event(fid(1), 1), batch))
    assert rows("SELECT * FROM penstock_journal") == []
    assert store.commit(event(fid(1), 1)) == DONE


def test_ill_formed_text_is_a_refusal(store):
    batch = event(fid(1), 1)
    kinds, columns, newest = batch.arrays()
    columns[-1] = columns[-1].replace(b"{}", b"\xff\xfe")
    batch.arrays = lambda: (kinds, columns, newest)
    with pytest.raises(RefusedRow, match="UTF8"):
        store.commit(batch)


class Loss:
    """Loses the connection at a named point of the next statements of the group commit."""

    def __init__(self, monkeypatch):
        self.times = 0
        self.point = "after"
        self.run = committing.run
        monkeypatch.setattr(committing, "run", self)

    def __call__(self, driver, statement, parameters=()):
        if not self.times or "fence" not in statement:
            return self.run(driver, statement, parameters)
        self.times -= 1
        if self.point == "after":
            self.run(driver, statement, parameters)
        driver.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")


@pytest.fixture
def loss(monkeypatch):
    return Loss(monkeypatch)


def test_a_batch_that_ends_its_connection_three_times_is_taken_for_the_cause(store, loss):
    loss.times, loss.point = 3, "before"
    batch = merge(event(fid(1), 1), event(fid(2), 1))
    for _ in range(2):
        with pytest.raises(Outage):
            store.commit(batch)
    with pytest.raises(RefusedRow, match="3 times in a row"):
        store.commit(batch)
    assert store.commit(batch) == DONE


def test_a_batch_that_was_lost_twice_and_then_written_starts_to_count_anew(store, loss):
    for number in (1, 2):
        loss.times, loss.point = 2, "before"
        batch = event(fid(number), 1)
        for _ in range(2):
            with pytest.raises(Outage):
                store.commit(batch)
        assert store.commit(batch) == DONE


def test_keyed_creations_of_several_processes_meet_and_give_one_flow(store, open_another, rows):
    stores = [open_another() for _ in range(4)]

    def ask(store, number):
        new = NewFlow(
            flow_row(fid(number)), live_row(fid(number)), idempotency_key="k", idempotency_hash=b"h" * 32
        )
        return store.create([new])[0]

    answers = [Aside(lambda s=s, n=n: ask(s, n)) for n, s in enumerate(stores, 1)]
    found = [answer.answer() for answer in answers]
    assert len({created.flow_id for created in found}) == 1
    assert sum(created.is_new for created in found) == 1
    assert rows("SELECT count(*) FROM penstock_live") == [(1,)]


def test_a_creation_that_waits_for_another_of_the_same_key_blocks_no_batch(
    store, open_another, hold, until_blocked
):
    me = store.replica_id
    other = open_another()
    store.commit(created(fid(1), me))
    insert = (
        "INSERT INTO penstock_flows (flow_id, root_id, workflow, graph_id, status, priority, fairness_key,"
        " fairness_weight, idempotency_key, input, delete_on_completion, created_at, updated_at) VALUES"
        f" ('{fid(9).hex()}', '{fid(9).hex()}', 'w', '', 'running', 1, '', 1, 'k', '', false, 1, 1)"
    )
    with hold(insert) as first:
        new = NewFlow(flow_row(fid(2)), live_row(fid(2)), idempotency_key="k")
        creating = Aside(lambda: other.create([new]))
        until_blocked("ON CONFLICT")
        assert store.commit(merge(event(fid(1), 1), stopped(fid(1), me))) == DONE
        first.execute("ROLLBACK")
    assert creating.answer()[0].is_new


# --- F9 ---


def test_a_batch_waits_for_nobody_s_row(store, hold):
    me = store.replica_id
    store.commit(merge(*(created(fid(n), me) for n in range(1, 11))))
    with hold(locked(fid(5))):
        batch = merge(*(event(fid(n), 1) for n in range(1, 11)), *(stopped(fid(n), me) for n in range(1, 11)))
        assert store.commit(batch) == Committed((batch.unit(fid(5)),))
    assert store.commit(merge(event(fid(5), 1), stopped(fid(5), me))) == DONE


def test_a_unit_is_put_off_whole_when_a_foreign_row_of_it_is_locked(replicas, hold, rows):
    first, second = replicas
    first.commit(merge(created(fid(1), first.replica_id), created(fid(2), second.replica_id)))
    batch = merge(event(fid(1), 1), stopped(fid(1), first.replica_id), message(fid(2)))
    batch.together[fid(1)] = fid(2)
    with hold(locked(fid(2), "NO KEY UPDATE")):
        assert first.commit(batch) == Committed((0,))
        assert rows("SELECT * FROM penstock_journal") == []
    assert first.commit(batch) == DONE
    assert second.read_mail({})[0].seen == 1


def test_a_message_whose_addressee_ended_is_dropped_and_its_unit_is_written(replicas, rows):
    first, second = replicas
    first.commit(merge(created(fid(1), first.replica_id), created(fid(2), second.replica_id)))
    second.commit(stopped(fid(2), second.replica_id))
    batch = merge(event(fid(1), 1), stopped(fid(1), first.replica_id), message(fid(2)))
    batch.together[fid(1)] = fid(2)
    assert first.commit(batch) == DONE
    assert rows("SELECT * FROM penstock_inbox") == []


def test_two_replicas_that_write_to_each_other_s_flows_never_wait_for_each_other(replicas):
    first = replicas[0]
    ids = list(range(1, 41))
    owner = {n: replicas[n % 2].replica_id for n in ids}
    first.commit(merge(*(created(fid(n), owner[n]) for n in ids)))

    def write(store):
        put_off = 0
        for _ in range(40):
            batch = merge(*(message(fid(n)) for n in (ids if store is first else reversed(ids))))
            while (answer := store.commit(batch)).refused:
                put_off += len(answer.refused)
                batch = batch.without(set(range(batch.units)) - set(answer.refused))
        return put_off

    for aside in [Aside(lambda s=s: write(s)) for s in replicas]:
        aside.answer()
    assert {mail.seen for mail in first.mail_of([fid(n) for n in ids])} == {80}


def test_a_unit_put_off_ten_times_stands_in_the_queue_and_is_written_beside_the_batches(
    store, hold, until_blocked, rows
):
    me = store.replica_id
    store.commit(merge(created(fid(1), me), created(fid(2), me)))
    unit = merge(event(fid(1), 1), stopped(fid(1), me))
    with hold(locked(fid(1))):
        for _ in range(PATIENCE_AFTER):
            assert store.commit(unit) == Committed((0,))
        until_blocked("ORDER BY flow_id FOR NO KEY UPDATE")
        # The writer goes on meanwhile.
        assert store.commit(merge(unit, event(fid(2), 1))).refused == (0,)
    patience = store._commits._patience
    eventually(lambda: patience._held, what="the rows to be held")
    assert store.commit(merge(unit, event(fid(2), 2))) == DONE
    assert rows("SELECT count(*) FROM penstock_journal") == [(3,)]
    assert rows("SELECT flow_id FROM penstock_live") == [(fid(2),)]


def test_rows_that_were_waited_for_are_let_go_when_nobody_comes(store, hold, until_blocked, monkeypatch):
    from penstock.store.dialects.postgresql import patience

    monkeypatch.setattr(patience, "_KEEP_S", 0.0)
    me = store.replica_id
    store.commit(created(fid(1), me))
    with hold(locked(fid(1))):
        for _ in range(PATIENCE_AFTER):
            store.commit(stopped(fid(1), me))
        until_blocked("ORDER BY flow_id FOR NO KEY UPDATE")
    eventually(lambda: store.commit(stopped(fid(1), me)) == DONE, what="the rows to be free")


# --- an acknowledgement that was lost ---


def in_doubt(store, loss, batch):
    loss.times, loss.point = 1, "after"
    with pytest.raises(Outage):
        store.commit(batch)
    return store.commit(batch)


@pytest.mark.parametrize(
    "kind", ["events", "creations", "stops", "releases", "messages beside events", "verdicts"]
)
def test_a_batch_that_was_written_and_not_acknowledged_counts_as_written(store, loss, rows, kind):
    me = store.replica_id
    store.commit(merge(*(created(fid(n), me) for n in (1, 2, 3))))
    store.commit(message(fid(3)))
    together = merge(event(fid(1), 1), message(fid(2)))
    together.together[fid(1)] = fid(2)
    batch = {
        "events": merge(event(fid(1), 1), event(fid(2), 1)),
        "creations": merge(created(fid(8), me), created(fid(9), me)),
        "stops": merge(event(fid(1), 1), stopped(fid(1), me), event(fid(2), 1), stopped(fid(2), me)),
        "releases": merge(released(fid(1), me), released(fid(2), me)),
        "messages beside events": together,
        "verdicts": verdict(fid(3), 1),
    }[kind]
    assert in_doubt(store, loss, batch) == DONE
    counts = [rows(f"SELECT count(*) FROM penstock_{table}")[0][0] for table in ("journal", "inbox")]
    assert counts == [len(batch.journal), 1 + len(batch.messages)]


def test_units_left_out_by_the_attempt_that_was_not_acknowledged_are_named(store, loss):
    me = store.replica_id
    store.commit(merge(created(fid(1), me), created(fid(2), me), created(fid(3), me)))
    store.send(fid(2), "cancel", "{}")
    batch = merge(
        *(event(fid(n), 1) for n in (1, 2, 3)), stopped(fid(1), me), stopped(fid(2), me), event(fid(3), 2)
    )
    assert in_doubt(store, loss, batch) == Committed((batch.unit(fid(2)),))
    assert store.journal(fid(2)) == []


def test_a_retry_that_meets_its_own_first_attempt_still_under_way_waits_for_it(
    store, database, until_blocked
):
    with database.connect() as former:
        former.execute("BEGIN")
        former.execute(
            "INSERT INTO penstock_journal (flow_id, ord, step, node, event, attempt, replica, worker, queued_ms,"
            f" ran_ms, at, body) VALUES ('{fid(1).hex()}', 1, 1, 'node', 'done', 0, {store.replica_id}, 1, 0, 1, {T0}, '{{}}')"
        )
        retry = Aside(lambda: store.commit(event(fid(1), 1)))
        until_blocked("penstock_journal")
        former.execute("COMMIT")
        assert retry.answer() == DONE


# --- S2 ---


def test_after_a_reconnect_the_newest_event_is_looked_for_and_its_loss_stops_the_engine(
    store, loss, execute, rows
):
    me = store.replica_id
    store.commit(merge(created(fid(1), me), event(fid(1), 1)))
    store.commit(event(fid(1), 2))
    loss.times, loss.point = 1, "before"
    with pytest.raises(Outage):
        store.commit(event(fid(1), 3))
    execute("DELETE FROM penstock_journal WHERE ord = 2")
    for _ in range(2):
        with pytest.raises(LostCommits):
            store.commit(event(fid(1), 3))
    assert rows("SELECT ord FROM penstock_journal") == [(1,)]
    store.register()
    assert store.commit(event(fid(2), 1)) == DONE


def test_after_a_reconnect_that_lost_nothing_the_writer_goes_on(store, loss):
    store.commit(event(fid(1), 1))
    loss.times, loss.point = 1, "before"
    with pytest.raises(Outage):
        store.commit(event(fid(1), 2))
    assert store.commit(event(fid(1), 2)) == DONE


# --- S28 ---


def test_a_batch_made_before_the_replica_registered_anew_is_not_written(store, execute):
    me = store.replica_id
    store.commit(created(fid(1), me))
    execute("UPDATE penstock_replicas SET dead_at = 1")
    late = merge(event(fid(1), 1), released(fid(1), me))
    assert store.commit(late) == Fenced(me)
    store.register()
    assert store.commit(late).foreign == (fid(1),)
