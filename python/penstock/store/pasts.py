"""Whole flows for readers: what they began with and everything that happened; and whether anything did."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import JournalRow, PastRow
from penstock.store.tables import flows, journal, live

_CHUNK = 500
_FLOW = [flows.c[name] for name in PastRow._fields if name != "journal"]
_EVENT = [journal.c[name] for name in JournalRow._fields]


def read_pasts(conn: Connection, flow_ids: Sequence[bytes]) -> list[PastRow]:
    """Read flows and their journals from ord 1 by primary key, some hundred at a time."""
    found: list[PastRow] = []
    for start in range(0, len(flow_ids), _CHUNK):
        chunk = list(flow_ids[start : start + _CHUNK])
        pasts = [
            PastRow._make([*row, []])
            for row in conn.execute(sa.select(*_FLOW).where(flows.c.flow_id.in_(chunk)))
        ]
        by_id = {bytes(past.flow_id): past.journal for past in pasts}
        events = (
            sa.select(journal.c.flow_id, *_EVENT)
            .where(journal.c.flow_id.in_(chunk))
            .order_by(journal.c.flow_id, journal.c.ord)
        )
        for flow_id, *event in conn.execute(events):
            if bytes(flow_id) in by_id:
                by_id[bytes(flow_id)].append(JournalRow(*event))
        found += pasts
    return found


def read_mark(conn: Connection, root_id: bytes) -> tuple[int, ...]:
    """Read numbers of which one changes with whatever happens in a tree: its flows, their events, their messages."""
    newest = (
        sa.select(sa.func.max(journal.c.ord)).where(journal.c.flow_id == flows.c.flow_id).scalar_subquery()
    )
    below = (flows.c.root_id == root_id) & flows.c.parent_id.is_not(None)
    each = (
        sa.select(newest.label("ord"), live.c.mail)
        .select_from(flows.outerjoin(live, live.c.flow_id == flows.c.flow_id))
        .where((flows.c.flow_id == root_id) | below)
        .subquery()
    )
    total = sa.select(sa.func.count(), sa.func.sum(each.c.ord), sa.func.sum(each.c.mail)).select_from(each)
    return tuple(int(number or 0) for number in conn.execute(total).one())
