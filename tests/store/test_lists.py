"""Pages of flows: complete, in one order, and found by an index however many flows there are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.store import Store
from penstock.store.rows import FlowFilter
from tests.store.fakes import T0, FakeBatch, flow_row, live_row, merge
from tests.support.many_flows import STEP_MS, fill, flow_id_at, plan_of

MINUTE = 60_000
MANY = 20_000


def made(at: int, number: int = 0, **columns: Any) -> FakeBatch:
    """A flow that was created at an instant."""
    flow_id = flow_id_at(at, number)
    row = flow_row(flow_id, created_at=at, root_id=flow_id, thread_id=flow_id) if not columns else None
    row = row or flow_row(flow_id, **({"created_at": at, "root_id": flow_id, "thread_id": flow_id} | columns))
    return FakeBatch(flows=[row], live=[live_row(flow_id)])


def walk(store: Store, which: FlowFilter, limit: int = 2) -> list[bytes]:
    """All ids of a list, page by page."""
    found: list[bytes] = []
    cursor = None
    while True:
        page = store.list_flows(which, limit, cursor)
        found += [row.flow_id for row in page.items]
        if page.cursor is None:
            return found
        cursor = page.cursor


def test_flows_of_one_millisecond_keep_one_order_over_pages(store: Store) -> None:
    store.commit(merge(*(made(T0, n) for n in range(9))))
    assert walk(store, FlowFilter()) == [flow_id_at(T0, n) for n in reversed(range(9))]
    assert (
        walk(store, FlowFilter(workflow="w"))
        == walk(store, FlowFilter(children=True))
        == walk(store, FlowFilter())
    )


def test_pages_have_no_flow_twice_and_leave_none_out_while_flows_come(store: Store) -> None:
    store.commit(merge(*(made(T0, n) for n in range(7))))
    found: list[bytes] = []
    cursor = None
    for n in range(20):
        page = store.list_flows(FlowFilter(), 2, cursor)
        found += [row.flow_id for row in page.items]
        store.commit(merge(made(T0 + 1 + n, n), made(T0 + 1 + n, 100 + n)))
        if page.cursor is None:
            break
        cursor = page.cursor
    assert found == [flow_id_at(T0, n) for n in reversed(range(7))]


def test_age_is_that_of_the_last_change(store: Store, execute: Callable[[str], None]) -> None:
    """Created an hour before, half a minute before, and after; the first one was written to since."""
    ages = {-60 * MINUTE: 1, -61 * MINUTE: 2, -MINUTE // 2: 3, 0: 4, MINUTE: 5}
    store.commit(merge(*(made(T0 + at, n) for at, n in ages.items())))
    execute(f"UPDATE penstock_flows SET updated_at = {T0 + 5} WHERE created_at = {T0 - 60 * MINUTE}")
    execute(f"UPDATE penstock_flows SET updated_at = {T0 + 6} WHERE created_at = {T0 - MINUTE // 2}")

    def numbers(**which: Any) -> list[int]:
        return [int.from_bytes(flow_id[6:]) for flow_id in walk(store, FlowFilter(**which))]

    assert numbers(newer_than=T0) == [5, 4, 3, 1]
    assert numbers(newer_than=T0 + 6) == [5, 3]
    assert numbers(older_than=T0) == [2]
    assert numbers(older_than=T0 + 6) == [4, 1, 2]
    assert numbers(newer_than=T0, older_than=T0 + 6) == [4, 1]
    assert numbers(newer_than=T0 - 90 * MINUTE) == [5, 4, 3, 1, 2]
    assert numbers(newer_than=T0, status="running", workflow="w", children=True) == [5, 4, 3, 1]


def test_the_turns_of_a_thread_are_listed_the_last_first(store: Store) -> None:
    thread = flow_id_at(T0, 0)
    store.commit(merge(made(T0), *(made(T0 + n, n, thread_id=thread, turn=n + 1) for n in range(1, 6))))
    store.commit(made(T0 + 9, 9))
    turns = [flow_id_at(T0 + n, n) for n in range(6)]
    assert walk(store, FlowFilter(thread_id=thread)) == turns[::-1]
    assert walk(store, FlowFilter(thread_id=thread, older_than=T0 + 2)) == turns[1::-1]


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("100%", [1]),
        ("100_", []),
        ("a_b", [2]),
        ("A_B", [2]),
        ("Ünder", [4]),
        ('say "hi"', [5]),
        ("w", [5, 4, 3, 2, 1]),
    ],
)
def test_a_search_takes_every_sign_for_itself(store: Store, search: str, expected: list[int]) -> None:
    tags = [
        '{"a":"100% of 100"}',
        '{"a":"a_b"}',
        '{"a":"axb\\\\c"}',
        '{"a":"\\u00dcnder"}',
        '{"a":"say \\"hi\\""}',
    ]
    store.commit(merge(*(made(T0 + n, n, tags=text) for n, text in enumerate(tags, 1))))
    found = walk(store, FlowFilter(search=search))
    assert [int.from_bytes(flow_id[6:]) for flow_id in found] == expected


def test_what_is_about_to_go_is_not_listed(store: Store, execute: Callable[[str], None]) -> None:
    store.commit(merge(made(T0, 1), made(T0, 2)))
    execute("UPDATE penstock_flows SET delete_at = 9 WHERE status = 'running'")
    for which in (FlowFilter(), FlowFilter(children=True), FlowFilter(newer_than=T0)):
        assert walk(store, which) == []


@pytest.mark.parametrize(
    ("which", "is_scan"),
    [
        ({}, False),
        ({"status": "failed"}, False),
        ({"workflow": "w", "status": "failed", "newer_than": 1, "older_than": 2}, False),
        ({"fairness_key": "ada", "status": "failed"}, False),
        ({"thread_id": bytes(16), "tags": {"a": "b"}}, False),
        ({"children": True}, False),
        ({"children": True, "status": "failed"}, True),
        ({"workflow": "w", "fairness_key": "ada"}, True),
        ({"fairness_key": ""}, True),
        ({"priority": 1}, True),
        ({"tags": {"a": "b"}}, True),
        ({"node": "pay"}, True),
        ({"error_code": "timeout"}, True),
        ({"search": "x"}, True),
    ],
)
def test_a_page_says_whether_it_had_to_look_at_rows_one_by_one(
    store: Store, which: dict[str, Any], is_scan: bool
) -> None:
    assert store.list_flows(FlowFilter(**which)).is_scan is is_scan


@contextmanager
def statements(store: Any) -> Iterator[list[tuple[str, Any]]]:
    """What the store asks meanwhile."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and "penstock_flows" in statement:
            asked.append((statement, parameters))

    engines = [
        engine
        for engine in (getattr(store, name, None) for name in ("_reads", "_writes", "_engine"))
        if engine
    ]
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        for engine in engines:
            sa.event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def full(store: Any) -> Store:
    with store._writing() as connection:
        fill(connection, MANY, T0)
    return store


END = T0
MIDDLE = T0 - MANY // 2 * STEP_MS
INDEXED: list[dict[str, Any]] = [
    {},
    {"status": "failed"},
    {"status": "running"},
    {"workflow": "old"},
    {"workflow": "none"},
    {"workflow": "old", "status": "failed"},
    {"fairness_key": "ada"},
    {"older_than": MIDDLE},
    {"newer_than": MIDDLE},
    {"newer_than": MIDDLE, "status": "failed"},
]


def test_a_page_of_an_indexed_filter_is_read_from_an_index_in_its_order(full: Any) -> None:
    for which in INDEXED:
        with statements(full) as asked:
            page = full.list_flows(FlowFilter(**which), 100)
            if page.cursor is not None:
                full.list_flows(FlowFilter(**which), 100, page.cursor)
        check_plans(full, asked)


def test_what_is_purged_by_an_indexed_filter_is_read_from_an_index(full: Any) -> None:
    for which in INDEXED[1:]:
        with statements(full) as asked:
            full.purge(FlowFilter(**which), 100)
        if which.get("status") != "running":
            check_plans(full, asked)
    with statements(full) as asked:
        assert full.sweep(1, 100) == 100
    check_plans(full, asked)


def test_what_lasted_is_found_by_an_index_of_its_own(full: Any) -> None:
    since = END - 1_000
    with statements(full) as asked:
        found = walk(full, FlowFilter(newer_than=since), 40)
        removed = full.purge(FlowFilter(newer_than=since), 20).roots
    assert len(found) == len(set(found)) > 60
    assert removed == 20
    with full._reading() as connection:
        plans = [plan_of(connection, *one) for one in asked if "coalesce" in one[0]]
    assert plans
    assert all("penstock_flows_lasting" in plan for plan in plans), plans


@pytest.mark.parametrize("status", [None, "completed", "failed"])
def test_pages_are_the_same_where_very_many_lasted(
    full: Any, monkeypatch: pytest.MonkeyPatch, status: str | None
) -> None:
    which = FlowFilter(newer_than=MIDDLE, status=status)
    sorted_by_need = walk(full, which, 40)
    monkeypatch.setattr("penstock.store.lists._FEW", 0)
    with statements(full) as asked:
        assert walk(full, which, 40) == sorted_by_need
    assert not any("coalesce" in one[0] for one in asked)


def test_a_purge_by_the_last_change_takes_everything_chunk_by_chunk_and_nothing_else(full: Any) -> None:
    which = FlowFilter(newer_than=MIDDLE)
    meant, everything = walk(full, which, 1_000), walk(full, FlowFilter(), 1_000)
    running = set(walk(full, FlowFilter(status="running"), 1_000))
    running |= set(walk(full, FlowFilter(status="interrupted"), 1_000))
    removed, after, chunks = 0, None, 0
    while chunks == 0 or after is not None:
        done = full.purge(which, 1_000, after)
        removed, after, chunks = removed + done.roots, done.after, chunks + 1
    kept = set(everything) - (set(meant) - running)
    assert set(walk(full, FlowFilter(), 1_000)) == kept
    assert removed == len(everything) - len(kept)


def check_plans(store: Any, asked: list[tuple[str, Any]]) -> None:
    assert asked
    with store._reading() as connection:
        for statement, parameters in asked:
            plan = plan_of(connection, statement.replace("FOR UPDATE SKIP LOCKED", ""), parameters)
            for whole in ("Seq Scan on penstock_flows", "SCAN penstock_flows"):
                assert whole not in plan, f"{statement}\n{plan}"
            steps = plan.split("\n")
            for step, then in itertools.pairwise(steps):
                # The ranges of an index come sorted; only their merge may sort.
                is_range = step.startswith("SEARCH penstock_flows") and "_lasting" not in step
                assert not (is_range and "USE TEMP B-TREE" in then), f"{statement}\n{plan}"
