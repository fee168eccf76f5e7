"""Flows with a unique key of the user's."""

import pytest

from penstock.errors import Conflict
from penstock.store.batch import Fenced
from penstock.store.rows import Created, NewFlow
from tests.store.fakes import created, event_row, fid, flow_row, live_row, stopped


def new(
    number, *, idempotency_key=None, idempotency_hash=None, business_key=None, is_next_turn=False, **columns
):
    return NewFlow(
        flow_row(fid(number), **columns),
        live_row(fid(number)),
        idempotency_key=idempotency_key,
        idempotency_hash=idempotency_hash,
        business_key=business_key,
        is_next_turn=is_next_turn,
    )


def test_a_created_flow_can_be_claimed(store):
    assert store.create([new(1), new(2)]) == [Created(fid(1), True), Created(fid(2), True)]
    assert len(store.claim(9)) == 2
    assert store.outcome(fid(1)).status == "running"


def test_a_flow_may_be_born_with_a_history(store):
    store.create([NewFlow(flow_row(fid(1)), live_row(fid(1)), (event_row(fid(1), 1, "snapshot"),))])
    assert [row.event for row in store.journal(fid(1))] == ["snapshot"]


def test_the_same_idempotency_key_gives_the_same_flow(store, rows):
    ask = {"idempotency_key": "order-1", "idempotency_hash": b"h" * 32}
    store.create([new(1, **ask)])
    assert store.create([new(2, **ask)]) == [Created(fid(1), False)]
    assert rows("SELECT count(*) FROM penstock_flows") == [(1,)]


def test_the_same_idempotency_key_for_another_thing_is_a_conflict(store):
    store.create([new(1, idempotency_key="order-1", idempotency_hash=b"h" * 32)])
    with pytest.raises(Conflict, match="order-1"):
        store.create([new(2, idempotency_key="order-1", idempotency_hash=b"i" * 32)])


def test_idempotency_keys_differ_by_every_letter_and_blank(store):
    for number, key in enumerate(["order-1", "ORDER-1", "order-1 "], 1):
        assert store.create([new(number, idempotency_key=key)]) == [Created(fid(number), True)]


def test_one_conflict_of_many_leaves_none(store, rows):
    store.create([new(1, business_key="b")])
    with pytest.raises(Conflict):
        store.create([new(2), new(3, business_key="b"), new(4)])
    assert rows("SELECT count(*) FROM penstock_flows") == [(1,)]
    assert rows("SELECT count(*) FROM penstock_live") == [(1,)]


def test_a_business_key_is_free_again_when_its_flow_has_ended(store):
    store.create([new(1, business_key="b")])
    store.create([new(2, business_key="b", workflow="other")])
    with pytest.raises(Conflict, match="business key 'b'"):
        store.create([new(3, business_key="b")])
    store.claim(9)
    store.commit(stopped(fid(1), store.replica_id))
    assert store.create([new(4, business_key="b")]) == [Created(fid(4), True)]


def test_a_turn_of_a_thread_is_given_once(store):
    store.create([new(1)])
    store.create([new(2, thread_id=fid(1), turn=2)])
    with pytest.raises(Conflict, match="Turn 2"):
        store.create([new(3, thread_id=fid(1), turn=2)])
    store.create([new(4, thread_id=fid(1), turn=None, is_next_turn=True)])
    assert store.outcome(fid(4)).turn == 3


def test_a_dead_replica_creates_nothing(store, execute):
    execute("UPDATE penstock_replicas SET dead_at = 1")
    assert store.create([new(1)]) == Fenced(store.replica_id)


def test_keyed_and_plain_flows_share_the_tables(store):
    store.commit(created(fid(1)))
    store.create([new(2)])
    assert len(store.claim(9)) == 2
