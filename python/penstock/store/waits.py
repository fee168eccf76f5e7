"""What flows wait for, as far as the database knows."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import WaitRow
from penstock.store.tables import flows, live, replicas


def read_wait(conn: Connection, flow_id: bytes) -> WaitRow | None:
    """Read one flow that has not ended."""
    row = conn.execute(_rows().where(live.c.flow_id == flow_id)).first()
    return None if row is None else _row(row)


def read_unclaimed(conn: Connection, limit: int) -> list[WaitRow]:
    """Read flows that nobody owns and that have work: by band, key and age, which is the order of `live_ready`."""
    first = (
        sa.select(live.c.flow_id)
        .where(live.c.owner.is_(None), live.c.ready_at.is_not(None))
        .order_by(*_ORDER)
        .limit(limit)
    )
    found = conn.execute(_rows().where(live.c.flow_id.in_(first)).order_by(*_ORDER))
    return [_row(row) for row in found]


_ORDER = (live.c.priority, live.c.fairness_key, live.c.ready_at, live.c.flow_id)


def _rows() -> sa.Select[Any]:
    columns = (live.c.flow_id, flows.c.status, live.c.owner, replicas.c.name, live.c.ready_at, live.c.wake_at)
    return (
        sa.select(*columns)
        .join(flows, flows.c.flow_id == live.c.flow_id)
        .outerjoin(replicas, replicas.c.replica_id == live.c.owner)
    )


def _row(row: Any) -> WaitRow:
    flow_id, status, owner, owner_name, ready_at, wake_at = row
    return WaitRow(bytes(flow_id), status, owner, owner_name, ready_at, wake_at)
