"""What people ask about."""

import pytest

from penstock.store.rows import Ended, FlowFilter, InterruptFilter, Sent
from tests.store.fakes import (
    T0,
    FakeBatch,
    created,
    fid,
    flow_row,
    live_row,
    merge,
    message,
    stopped,
    verdict,
)


def with_flow(number, **columns):
    return FakeBatch(flows=[flow_row(fid(number), **columns)], live=[live_row(fid(number))])


def numbers(page):
    return [int.from_bytes(item.flow_id) for item in page.items]


def test_an_unknown_flow_has_no_outcome(store):
    assert store.outcome(fid(1)) is None
    assert store.outcomes([fid(1)]) == {}


def test_outcomes_of_any_number_of_flows_come_at_once(store):
    store.commit(merge(*(created(fid(n)) for n in range(1_200))))
    found = store.outcomes([fid(n) for n in range(1, 1_300)])
    assert len(found) == 1_199
    assert found[fid(7)] == store.outcome(fid(7))


def test_a_tree_is_its_root_and_all_below(store):
    below = {"root_id": fid(1), "parent_id": fid(1), "parent_step": 3, "thread_id": None, "turn": None}
    store.commit(merge(with_flow(1), with_flow(2, **below), with_flow(3), with_flow(4, **below)))
    assert [row.flow_id for row in store.tree(fid(1))] == [fid(1), fid(2), fid(4)]
    assert (store.has_live_children(fid(1)), store.has_live_children(fid(3))) == (True, False)


def test_pages_go_from_the_newest_to_the_oldest(store):
    store.commit(merge(*(created(fid(n)) for n in range(1, 6))))
    first = store.list_flows(FlowFilter(), limit=2)
    second = store.list_flows(FlowFilter(), limit=2, cursor=first.cursor)
    third = store.list_flows(FlowFilter(), limit=2, cursor=second.cursor)
    assert [numbers(page) for page in (first, second, third)] == [[5, 4], [3, 2], [1]]
    assert third.cursor is None


def test_a_page_has_a_thousand_flows_at_most(store):
    store.commit(merge(*(created(fid(n)) for n in range(1_001))))
    page = store.list_flows(FlowFilter(), limit=5_000)
    assert len(page.items) == 1_000
    assert page.cursor == fid(1)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (FlowFilter(status="failed"), [2]),
        (FlowFilter(workflow="special"), [1]),
        (FlowFilter(thread_id=fid(1)), [1]),
        (FlowFilter(node="pay"), [1]),
        (FlowFilter(node="PAY"), []),
        (FlowFilter(fairness_key="k"), [3]),
        (FlowFilter(priority=7), [3]),
        (FlowFilter(tags={"who": "ada"}), [2]),
        (FlowFilter(tags={"who": "ada", 'odd "key"': "1"}), [2]),
        (FlowFilter(tags={"who": "bob"}), []),
        (FlowFilter(error_code="timeout"), [2]),
        (FlowFilter(search="peci"), [1]),
        (FlowFilter(search="50%"), [2]),
        (FlowFilter(older_than=T0), [3]),
        (FlowFilter(children=True), [4, 3, 2, 1]),
        (FlowFilter(workflow="special", status="failed"), []),
    ],
)
def test_a_filter_keeps_what_it_says(store, execute, which, expected):
    store.commit(
        merge(
            with_flow(1, workflow="special", position='["pay"]'),
            with_flow(2, status="failed", tags='{"who":"ada","odd \\"key\\"":"1"}'),
            with_flow(3, fairness_key="k", priority=7, created_at=T0 - 1),
            with_flow(4, root_id=fid(1), parent_id=fid(1), thread_id=None, turn=None),
        )
    )
    execute(
        """UPDATE penstock_flows SET error = '{"code":"timeout","message":"at 50% of it"}' WHERE status = 'failed'"""
    )
    assert numbers(store.list_flows(which)) == expected


def test_open_questions_are_listed_over_all_flows(store):
    def ask(number, flow, node, key=None):
        return FakeBatch(
            interrupts=[(fid(number), fid(flow), fid(1), 1, node, "interrupt", key, "{}", T0, None)]
        )

    store.commit(
        merge(
            with_flow(1), with_flow(2, workflow="v"), ask(11, 1, "a"), ask(12, 2, "b", "k"), ask(13, 1, "b")
        )
    )

    def asked(**which):
        return [
            int.from_bytes(row.interrupt_id) for row in store.list_interrupts(InterruptFilter(**which)).items
        ]

    assert asked() == [13, 12, 11]
    assert asked(node="b") == [13, 12]
    assert asked(key="k") == [12]
    assert asked(workflow="w") == [13, 11]
    page = store.list_interrupts(InterruptFilter(root_id=fid(1)), limit=2)
    assert page.cursor == fid(12)
    assert len(store.list_interrupts(InterruptFilter(), cursor=page.cursor).items) == 1
    assert asked(is_oldest_first=True) == [11, 12, 13]
    assert asked(interrupt_id=fid(12)) == [12]
    oldest = store.list_interrupts(InterruptFilter(is_oldest_first=True), limit=1)
    rest = store.list_interrupts(InterruptFilter(is_oldest_first=True), cursor=oldest.cursor)
    assert [row.interrupt_id for row in rest.items] == [fid(12), fid(13)]


def test_the_message_that_answered_a_question_is_found_by_its_tree(store):
    store.commit(merge(with_flow(1), with_flow(2, root_id=fid(1), parent_id=fid(1))))
    asked, other = fid(11), fid(12)
    for question, sender in ((asked, "a:1"), (asked, "b:2"), (other, "c:3")):
        store.send(fid(2), "resume", f'{{"interrupt_id":"{question.hex()}","answer":1}}', sender)
    store.commit(
        FakeBatch(
            verdicts=[
                (T0 + 1, '{"ok":false,"code":"conflict"}', fid(2), 1),
                (T0 + 2, '{"ok":true}', fid(2), 2),
            ]
        )
    )
    answer = store.answer_of(fid(1), asked)
    assert (answer.seq, answer.sender, answer.answered_at) == (2, "b:2", T0 + 2)
    assert store.answer_of(fid(1), other) is None
    assert store.answer_of(fid(2), asked) is None


def test_a_graph_is_stored_once_and_the_newest_is_found_by_name(store, clock):
    store.publish(b"1" * 32, "w", '{"v":1}')
    clock.ms += 1
    store.publish(b"2" * 32, "w", '{"v":2}')
    assert store.newest_graph("w") == (b"2" * 32, '{"v":2}')
    clock.ms += 1
    store.publish(b"1" * 32, "w", '{"v":1}')
    assert store.newest_graph("w") == (b"1" * 32, '{"v":1}')
    assert store.graph(b"2" * 32) == '{"v":2}'
    assert store.graph(b"3" * 32) is None
    assert store.newest_graph("nobody") is None


def test_a_message_finds_the_flow_or_learns_how_it_ended(store):
    store.commit(merge(created(fid(1), store.replica_id), created(fid(2), store.replica_id)))
    store.commit(stopped(fid(2), store.replica_id))
    assert store.send(fid(1), "cancel", "{}") == Sent(1)
    assert store.send(fid(1), "pause", "{}", sender="somebody") == Sent(2)
    assert store.send(fid(2), "cancel", "{}") == Ended("completed")
    assert store.send(fid(3), "cancel", "{}") is None


def test_a_verdict_is_empty_until_it_is_written(store):
    store.commit(merge(created(fid(1), store.replica_id), message(fid(1))))
    assert store.verdicts([(fid(1), 1)]) == {(fid(1), 1): (None, None)}


def test_answered_messages_go_after_ten_minutes_unanswered_ones_stay(store, clock, rows):
    store.commit(merge(created(fid(1), store.replica_id), *(message(fid(1)) for _ in range(4))))
    store.commit(merge(verdict(fid(1), 1, T0), verdict(fid(1), 2, T0), verdict(fid(1), 3, T0 + 1)))
    clock.ms = T0 + 10 * 60 * 1000
    assert store.clean() == 0
    clock.ms += 1
    assert store.clean(limit=1) == 1
    assert store.clean() == 1
    assert rows("SELECT seq FROM penstock_inbox ORDER BY seq") == [(3,), (4,)]
