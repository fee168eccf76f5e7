"""Removing flows: always a root with all below it, and only when everything of it has ended."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.outcome import FINISHED
from penstock.store.lists import JsonQueries, first_id_at, oldest
from penstock.store.rows import FlowFilter, Purged
from penstock.store.tables import flows, interrupts, journal, live, outbox

_CHUNK = 500
_ENDED = sorted(FINISHED)


def purge(conn: Connection, which: FlowFilter, json: JsonQueries, limit: int, after: bytes | None) -> Purged:
    """Remove up to *limit* finished roots, oldest first, past the cursor *after*.

    A root that somebody else is about to change, or of which something below runs on, is passed over.
    """
    found, cursor = oldest(conn, which, json, _ENDED, limit, after)
    return Purged(_remove(conn, found, with_notices=True), cursor)


def delete(conn: Connection, flow_id: bytes, now: int) -> bool | None:
    """Remove one root that has ended; what runs on below it is waited for by `sweep`.

    None: there is no such flow. False: it has not ended.
    """
    row = conn.execute(sa.select(flows.c.status).where(flows.c.flow_id == flow_id).with_for_update()).first()
    if row is None:
        return None
    if row[0] not in FINISHED:
        return False
    if not _remove(conn, [flow_id], with_notices=True):
        # An earlier instant stays: whoever marked it first is obeyed.
        marked = sa.update(flows).where(flows.c.flow_id == flow_id)
        due = sa.case((flows.c.delete_at < now, flows.c.delete_at), else_=now)
        conn.execute(marked.values(delete_at=due))
    return True


def sweep(conn: Connection, now: int, retain_ms: int | None, limit: int) -> int:
    """Remove up to *limit* roots whose time has come; served by `flows_delete` and `flows_listed`.

    What was to be told about them is told all the same.
    """
    due = sa.select(flows.c.flow_id).where(flows.c.delete_at <= now).order_by(flows.c.delete_at).limit(limit)
    removed = _remove(conn, [row[0] for row in conn.execute(due)], with_notices=False)
    if retain_ms is None or removed >= limit:
        return removed
    before = now - retain_ms
    parts = [
        sa.select(flows.c.flow_id)
        .where(
            flows.c.status == status,
            flows.c.parent_id.is_(None),
            flows.c.delete_at.is_(None),
            flows.c.flow_id < first_id_at(before),
            flows.c.stopped_at < before,
        )
        .order_by(flows.c.flow_id)
        .limit(limit - removed)
        for status in _ENDED
    ]
    for part in parts:
        if removed < limit:
            old = [row[0] for row in conn.execute(part)][: limit - removed]
            removed += _remove(conn, old, with_notices=False)
    return removed


def _remove(conn: Connection, roots: Sequence[bytes], *, with_notices: bool) -> int:
    """Remove those of some roots that have ended with all below them; how many.

    Answered messages stay until `clean` takes them: their senders may be about to read the answers.
    """
    mine = _locked(conn, roots)
    trees = {root: [root] for root in mine}
    for part in _chunks(mine):
        below = sa.select(flows.c.root_id, flows.c.flow_id).where(
            flows.c.root_id.in_(part), flows.c.parent_id.is_not(None)
        )
        for root, flow_id in conn.execute(below):
            trees[root].append(flow_id)
    every = [flow_id for tree in trees.values() for flow_id in tree]
    alive = set(_which(conn, live.c.flow_id, every))
    ended = [tree for tree in trees.values() if alive.isdisjoint(tree)]
    gone = [flow_id for tree in ended for flow_id in tree]
    for table in (journal, interrupts, *([outbox] if with_notices else []), flows):
        for part in _chunks(gone):
            conn.execute(sa.delete(table).where(table.c.flow_id.in_(part)))
    return len(ended)


def _locked(conn: Connection, roots: Sequence[bytes]) -> list[bytes]:
    """Those whose rows are there, finished, and held by nobody; held by us from here on."""
    found: list[bytes] = []
    for part in _chunks(roots):
        statement = sa.select(flows.c.flow_id).where(flows.c.flow_id.in_(part), flows.c.status.in_(_ENDED))
        found += [row[0] for row in conn.execute(statement.with_for_update(skip_locked=True))]
    return found


def _which(conn: Connection, column: Any, flow_ids: Sequence[bytes]) -> Collection[bytes]:
    found: list[bytes] = []
    for part in _chunks(flow_ids):
        found += [row[0] for row in conn.execute(sa.select(column).where(column.in_(part)))]
    return found


def _chunks(flow_ids: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [flow_ids[start : start + _CHUNK] for start in range(0, len(flow_ids), _CHUNK)]
