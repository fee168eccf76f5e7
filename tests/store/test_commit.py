"""The group commit: all of a batch, but for units whose guards do not hold."""

import pytest

from penstock.store import RefusedRow
from penstock.store.batch import Committed, Fenced
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


def test_events_are_appended(store):
    store.commit(created(fid(1), store.replica_id))
    assert store.commit(merge(event(fid(1), 1, body='{"a":1}'), event(fid(1), 2))) == DONE
    assert [(row.ord, row.body) for row in store.journal(fid(1))] == [(1, '{"a":1}'), (2, "{}")]
    assert [row.ord for row in store.journal(fid(1), after=1)] == [2]


def test_a_stop_ends_the_flow(store, rows):
    store.commit(created(fid(1), store.replica_id))
    assert store.commit(merge(event(fid(1), 1), stopped(fid(1), store.replica_id))) == DONE
    outcome = store.outcome(fid(1))
    assert (outcome.status, outcome.output, outcome.stopped_at) == ("completed", '{"x":1}', T0 + 5)
    assert rows("SELECT * FROM penstock_live") == []


def test_a_flow_that_is_deleted_on_completion_stays_readable_for_a_minute(store, rows):
    flow = flow_row(fid(1), delete_on_completion=True)
    store.commit(FakeBatch(flows=[flow], live=[live_row(fid(1), store.replica_id)]))
    store.commit(stopped(fid(1), store.replica_id))
    assert rows("SELECT delete_at FROM penstock_flows") == [(T0 + 5 + 60_000,)]


def test_a_release_leaves_the_flow_to_anybody(store, rows):
    store.commit(created(fid(1), store.replica_id))
    assert store.commit(released(fid(1), store.replica_id, wake_at=T0 + 60_000)) == DONE
    assert rows("SELECT owner, claims, ready_at, wake_at FROM penstock_live") == [
        (None, 1, None, T0 + 60_000)
    ]


@pytest.mark.parametrize("operation", [stopped, released])
def test_a_stop_or_release_with_unread_mail_is_refused_and_nothing_else(store, rows, operation):
    me = store.replica_id
    store.commit(merge(*(created(fid(n), me) for n in (1, 2, 3))))
    store.send(fid(2), "cancel", "{}")
    batch = merge(
        *(event(fid(n), 1) for n in (1, 2, 3)), *(operation(fid(n), me) for n in (1, 2, 3)), event(fid(9), 1)
    )
    answer = store.commit(batch)
    assert answer == Committed((batch.unit(fid(2)),))
    assert [row[0] for row in rows("SELECT flow_id FROM penstock_journal ORDER BY flow_id")] == [
        fid(1),
        fid(3),
        fid(9),
    ]
    assert store.outcome(fid(2)).status == "running"
    assert rows("SELECT owner FROM penstock_live WHERE flow_id = ?", fid(2)) == [(me,)]

    seen = merge(event(fid(2), 1), operation(fid(2), me, mail=1))
    assert store.commit(seen) == DONE


@pytest.mark.parametrize("guard", [{"claims": 2}, {"owner": 999}])
def test_an_operation_of_a_former_ownership_is_refused(store, guard):
    store.commit(created(fid(1), store.replica_id))
    batch = released(fid(1), **({"owner": store.replica_id} | guard))
    assert store.commit(batch) == Committed((0,))


def test_calming_is_guarded_too(store, rows):
    me = store.replica_id
    store.commit(merge(created(fid(1), me, crashes=2), created(fid(2), me, crashes=2)))
    batch = FakeBatch(calmed=[(fid(1), me, 1), (fid(2), me, 7)])
    assert store.commit(batch) == Committed((batch.unit(fid(2)),))
    assert rows("SELECT crashes FROM penstock_live ORDER BY flow_id") == [(0,), (2,)]


def test_what_is_one_unit_is_written_whole_or_not_at_all(store):
    me = store.replica_id
    store.commit(merge(created(fid(1), me), created(fid(2), me)))
    batch = merge(stopped(fid(1), me, claims=9), message(fid(2)), event(fid(1), 1))
    batch.together[fid(1)] = fid(2)
    assert store.commit(batch) == Committed((0,))
    assert store.mail_of([fid(2)])[0].messages == []


def test_messages_count_up_and_stand_under_their_number(store, rows):
    store.commit(created(fid(1), store.replica_id))
    store.commit(merge(message(fid(1), "1"), message(fid(1), "2")))
    assert rows("SELECT mail, mail_at, ready_at FROM penstock_live") == [(2, T0 + 1, None)]
    assert rows("SELECT seq, body FROM penstock_inbox") == [(1, "1"), (2, "2")]


def test_a_message_to_an_ended_flow_is_dropped(store, rows):
    store.commit(created(fid(1), store.replica_id))
    assert store.commit(merge(message(fid(1)), stopped(fid(1), store.replica_id), message(fid(7)))) == DONE
    assert rows("SELECT * FROM penstock_inbox") == []


def test_a_message_makes_a_flow_that_is_released_beside_it_ready(store, rows):
    store.commit(created(fid(1), store.replica_id))
    store.commit(merge(message(fid(1)), released(fid(1), store.replica_id)))
    assert rows("SELECT owner, ready_at, mail_at FROM penstock_live") == [(None, T0 + 1, T0 + 1)]


def test_the_last_verdict_says_that_no_mail_is_unread(store, rows):
    store.commit(created(fid(1), store.replica_id))
    store.commit(merge(message(fid(1)), message(fid(1))))
    store.commit(verdict(fid(1), 2))
    assert rows("SELECT mail_at FROM penstock_live") == [(T0 + 1,)]
    store.commit(verdict(fid(1), 1))
    assert rows("SELECT mail, mail_at FROM penstock_live") == [(2, None)]
    assert store.verdicts([(fid(1), 1), (fid(1), 3)]) == {(fid(1), 1): (T0 + 2, '{"ok":true}')}


def test_statuses_interrupts_and_the_outbox_ride_along(store, rows):
    store.commit(created(fid(1), store.replica_id))
    question = (b"q" * 16, fid(1), fid(1), 3, "ask", "interrupt", None, "{}", T0, None)
    store.commit(
        FakeBatch(
            statuses=[("interrupted", '["ask"]', T0 + 3, fid(1))],
            interrupts=[question],
            outbox=[("stop", fid(1), 4, "{}")],
        )
    )
    outcome = store.outcome(fid(1))
    assert (outcome.status, outcome.position, outcome.updated_at) == ("interrupted", '["ask"]', T0 + 3)
    assert rows("SELECT * FROM penstock_interrupts") == [question]
    assert rows("SELECT topic, ord FROM penstock_outbox") == [("stop", 4)]
    store.commit(FakeBatch(interrupt_deletes=[(b"q" * 16,)]))
    assert rows("SELECT * FROM penstock_interrupts") == []


def test_a_dead_replica_writes_nothing(store, execute, rows):
    execute("UPDATE penstock_replicas SET dead_at = 1")
    assert store.commit(created(fid(1), store.replica_id)) == Fenced(store.replica_id)
    assert rows("SELECT * FROM penstock_flows") == []


def test_a_batch_whose_acknowledgement_was_lost_counts_as_committed(store):
    me = store.replica_id
    batch = merge(created(fid(1), me), event(fid(1), 1, replica=me))
    assert store.commit(batch) == DONE
    assert store.commit(batch) == DONE
    assert len(store.journal(fid(1))) == 1


def test_units_refused_before_the_acknowledgement_was_lost_are_named_again(store):
    me = store.replica_id
    store.commit(merge(created(fid(1), me), created(fid(2), me)))
    batch = merge(event(fid(1), 1), stopped(fid(1), me), event(fid(2), 1), stopped(fid(2), me, claims=9))
    first = store.commit(batch)
    assert first.refused == (batch.unit(fid(2)),)
    assert store.commit(batch) == first


@pytest.mark.parametrize("other", [{"replica": 77}, {"body": '{"other":1}'}, {"event": "failed"}])
def test_an_event_that_somebody_else_wrote_is_no_lost_acknowledgement(store, other):
    store.commit(event(fid(1), 1))
    with pytest.raises(RefusedRow):
        store.commit(merge(event(fid(1), 1, **other), event(fid(2), 1)))
    assert store.journal(fid(2)) == []


@pytest.mark.parametrize("body", [1 << 70, "lone \ud800 surrogate", None, object()])
def test_what_the_database_cannot_hold_is_refused_and_leaves_nothing(store, body, rows):
    batch = merge(event(fid(1), 1), event(fid(2), 1))
    batch.journal[1] = (*batch.journal[1][:-1], body)
    with pytest.raises(RefusedRow):
        store.commit(batch)
    assert rows("SELECT * FROM penstock_journal") == []
    assert store.commit(event(fid(1), 1)) == DONE
