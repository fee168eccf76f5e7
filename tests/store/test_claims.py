"""Which flows are taken, in which order, and what is read of them."""

import pytest

from penstock.store.batch import Fenced
from penstock.store.rows import Look
from tests.store.fakes import T0, created, event, fid, merge, message, released, verdict


def taken(claims):
    return [int.from_bytes(claim.flow_id) for claim in claims]


def test_flows_are_claimed_best_band_first_then_by_key_and_age(store):
    store.commit(
        merge(
            created(fid(1), priority=5),
            created(fid(2), priority=1, fairness_key="b"),
            created(fid(3), priority=1, fairness_key="a", ready_at=T0 + 2),
            created(fid(4), priority=1, fairness_key="a", ready_at=T0 + 1),
        )
    )
    assert taken(store.claim(3)) == [4, 3, 2]
    assert taken(store.claim(3)) == [1]
    assert store.claim(3) == []


def test_a_claim_counts_and_names_its_owner(store, rows):
    store.commit(created(fid(1)))
    assert store.claim(1) == [(fid(1), 1, b"g" * 32)]
    assert rows("SELECT owner, claims FROM penstock_live") == [(store.replica_id, 1)]


def test_without_room_only_flows_with_mail_are_claimed(store):
    store.commit(
        merge(
            created(fid(1)), created(fid(2)), created(fid(3), ready_at=None, wake_at=T0 + 9), message(fid(3))
        )
    )
    assert taken(store.claim(0)) == [3]
    assert taken(store.claim(9)) == [1, 2]


def test_due_flows_are_made_ready_and_keep_their_instant_as_age(store, clock, rows):
    store.commit(
        merge(
            created(fid(1), ready_at=None, wake_at=T0 + 500), created(fid(2), ready_at=None, wake_at=T0 + 501)
        )
    )
    assert store.look() == Look(False, False, False, T0 + 500)
    clock.ms = T0 + 500
    assert taken(store.claim(9)) == [1]
    assert rows("SELECT ready_at, wake_at FROM penstock_live WHERE flow_id = ?", fid(1)) == [(T0 + 500, None)]


def test_foreign_graphs_and_unknown_formats_are_left_to_others(store):
    store.commit(merge(created(fid(1), graph_id=b"x" * 32), created(fid(2), format=2), created(fid(3))))
    store.send(fid(1), "cancel", "{}")
    assert taken(store.claim(9, exclude=[b"x" * 32])) == [3]
    assert taken(store.claim(9, max_format=2)) == [1, 2]


def test_a_flow_given_back_keeps_its_place(store, clock):
    store.commit(merge(created(fid(1)), created(fid(2))))
    claims = store.claim(1)
    clock.ms += 1_000
    store.give_back(claims)
    assert taken(store.claim(2)) == [1, 2]


def test_giving_back_a_claim_that_is_no_more_does_nothing(store, rows):
    store.commit(created(fid(1)))
    old = store.claim(1)
    store.give_back(old)
    store.claim(1)
    store.give_back(old)
    assert rows("SELECT owner, claims FROM penstock_live") == [(store.replica_id, 2)]


def test_a_dead_replica_claims_nothing(store, execute):
    store.commit(created(fid(1)))
    execute("UPDATE penstock_replicas SET dead_at = 1")
    assert store.claim(1) == Fenced(store.replica_id)


def test_a_look_tells_apart_what_there_is(store):
    assert store.look() == Look(False, False, False, None)
    store.commit(merge(created(fid(1), store.replica_id), created(fid(2), ready_at=None, wake_at=T0 + 7)))
    assert store.look() == Look(False, False, False, T0 + 7)
    store.commit(message(fid(1)))
    assert store.look() == Look(True, False, False, T0 + 7)
    store.commit(message(fid(2)))
    assert store.look() == Look(True, True, True, T0 + 7)


def test_a_flow_is_loaded_with_its_journal_from_the_last_snapshot(store):
    store.commit(created(fid(1)))
    kinds = ["done", "snapshot", "done", "snapshot", "done"]
    store.commit(merge(*(event(fid(1), n, event=kind) for n, kind in enumerate(kinds, 1))))
    store.send(fid(1), "cancel", "{}")
    store.claim(1)
    (row,) = store.load([fid(1), fid(2)])
    assert (row.claims, row.crashes, row.mail, row.workflow, row.input) == (1, 0, 1, "w", "{}")
    assert row.delete_on_completion is False
    assert [(e[0], e[3]) for e in row.journal] == [(4, "snapshot"), (5, "done")]
    assert len(row.journal[0]) == 7
    (row,) = store.load([fid(1)], complete=True)
    assert [e[0] for e in row.journal] == [1, 2, 3, 4, 5]


def test_a_flow_that_ended_can_still_be_loaded(store, execute):
    store.commit(merge(created(fid(1)), event(fid(1), 1)))
    execute("DELETE FROM penstock_live")
    (row,) = store.load([fid(1)])
    assert (row.claims, row.mail, len(row.journal)) == (0, 0, 1)


def test_mail_is_read_with_the_count_it_belongs_to(store):
    store.commit(merge(created(fid(1), store.replica_id), created(fid(2), store.replica_id)))
    store.commit(merge(message(fid(1), "1"), message(fid(1), "2")))
    assert store.read_mail({}) == [(fid(1), 2, [(1, "signal", "1"), (2, "signal", "2")])]
    assert store.read_mail({fid(1): 1}) == [(fid(1), 2, [(2, "signal", "2")])]
    assert store.read_mail({fid(1): 2}) == [(fid(1), 2, [])]
    store.commit(verdict(fid(1), 1))
    assert store.mail_of([fid(1), fid(2), fid(9)]) == [(fid(1), 2, [(2, "signal", "2")]), (fid(2), 0, [])]


def test_a_message_kept_for_later_does_not_wake_a_released_flow_but_is_read_again(store):
    me = store.replica_id
    store.commit(merge(created(fid(1), me), message(fid(1), "early")))
    store.commit(released(fid(1), me, mail=1, wake_at=T0 + 60_000))
    assert store.claim(9) == []
    store.send(fid(1), "signal", '"late"')
    store.claim(9)
    assert [body for _, _, body in store.mail_of([fid(1)])[0].messages] == ["early", '"late"']


@pytest.mark.needs("sqlite")
@pytest.mark.parametrize(
    ("query", "index"),
    [
        (
            "SELECT flow_id FROM penstock_live WHERE owner IS NULL AND ready_at IS NOT NULL AND format <= 1"
            " ORDER BY priority, fairness_key, ready_at, flow_id LIMIT 10",
            "penstock_live_ready",
        ),
        (
            "SELECT flow_id FROM penstock_live WHERE owner IS NULL AND mail_at IS NOT NULL ORDER BY mail_at",
            "penstock_live_mail",
        ),
        (
            "SELECT flow_id FROM penstock_live WHERE owner IS NULL AND wake_at <= 7 ORDER BY wake_at",
            "penstock_live_wake",
        ),
        (
            "SELECT flow_id, mail FROM penstock_live WHERE owner = 7 AND mail_at IS NOT NULL",
            "penstock_live_mail",
        ),
        ("UPDATE penstock_live SET owner = NULL WHERE owner = 7", "penstock_live_owner"),
        (
            "SELECT seq FROM penstock_inbox WHERE flow_id = x'00' AND seq > 1 AND answered_at IS NULL ORDER BY seq",
            "penstock_inbox_unread",
        ),
        (
            "SELECT * FROM penstock_inbox WHERE answered_at < 7 ORDER BY answered_at",
            "penstock_inbox_answered",
        ),
    ],
)
def test_every_poll_is_served_by_an_index_and_sorts_nothing(store, rows, query, index):
    plan = " ".join(row[3] for row in rows(f"EXPLAIN QUERY PLAN {query}"))
    assert index in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.needs("sqlite")
def test_reading_a_journal_backwards_sorts_nothing(store, rows):
    plan = rows("EXPLAIN QUERY PLAN SELECT * FROM penstock_journal WHERE flow_id = x'00' ORDER BY ord DESC")
    assert "TEMP B-TREE" not in str(plan)
