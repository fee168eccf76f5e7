"""Messages that may reach flows which have ended: the live row comes back, and with it somebody who reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock._core import JOURNAL_FORMAT
from penstock.errors import Conflict, EngineUnavailable
from penstock.store.rows import Sent
from penstock.store.tables import flows, inbox, live

Insert = Callable[[sa.Table], Any]

#: A flow may end between a look at its live row and a look at its status, as often as somebody revives it.
_ATTEMPTS = 5
_FINISHED = ("completed", "failed", "cancelled")


def send_or_revive(
    conn: Connection, messages: Sequence[tuple[bytes, str, str]], at: int, insert: Insert
) -> list[Sent] | None:
    """Post (flow_id, kind, body) in the caller's transaction, all or none; None when one of the flows is unknown.

    Flows of a tree are to be given root first, so that two senders take their rows in the same order.

    Raises:
        Conflict: Another flow has the business key of one that would live again.
    """
    sent = []
    for flow_id, kind, body in messages:
        seq = _next_seq(conn, flow_id, at, insert)
        if seq is None:
            return None
        values = {"flow_id": flow_id, "seq": seq, "kind": kind, "body": body, "created_at": at}
        conn.execute(sa.insert(inbox).values(values))
        sent.append(Sent(seq))
    return sent


def _next_seq(conn: Connection, flow_id: bytes, at: int, insert: Insert) -> int | None:
    for _ in range(_ATTEMPTS):
        seq = _count(conn, flow_id, at)
        if seq is not None:
            return seq
        # The lock keeps a purge away until the live row stands.
        row = conn.execute(sa.select(flows).where(flows.c.flow_id == flow_id).with_for_update()).first()
        if row is None:
            return None
        if row.status in _FINISHED:
            _check_business_key(conn, row)
            conn.execute(insert(live).values(_live_row(conn, row, at)))
    raise EngineUnavailable("the flow ends and begins all the time; try again")


def _count(conn: Connection, flow_id: bytes, at: int) -> int | None:
    """Count a message on the live row, as `send` does."""
    is_unowned = live.c.owner.is_(None)
    ready_at = sa.case((is_unowned, sa.func.coalesce(live.c.ready_at, at)), else_=live.c.ready_at)
    values = {"mail": live.c.mail + 1, "mail_at": sa.func.coalesce(live.c.mail_at, at), "ready_at": ready_at}
    statement = sa.update(live).where(live.c.flow_id == flow_id).values(values)
    if not conn.execute(statement.execution_options(preserve_rowcount=True)).rowcount:
        return None
    return int(conn.execute(sa.select(live.c.mail).where(live.c.flow_id == flow_id)).scalar_one())


def _live_row(conn: Connection, row: sa.Row[Any], at: int) -> dict[str, Any]:
    newest = sa.select(sa.func.max(inbox.c.seq)).where(inbox.c.flow_id == row.flow_id)
    return {
        "flow_id": row.flow_id,
        "owner": None,
        # Higher than any claim of its first life, so that no memory of that passes for current.
        "claims": at,
        "crashes": 0,
        "priority": row.priority,
        "fairness_key": row.fairness_key,
        "fairness_weight": row.fairness_weight,
        "ready_at": at,
        "wake_at": None,
        "mail": int(conn.execute(newest).scalar() or 0),
        "mail_at": None,
        "graph_id": row.graph_id,
        "format": JOURNAL_FORMAT,
    }


def _check_business_key(conn: Connection, row: sa.Row[Any]) -> None:
    if row.business_key is None:
        return
    holder = sa.select(flows.c.flow_id).where(
        flows.c.workflow == row.workflow,
        flows.c.business_open == row.business_key,
        flows.c.flow_id != row.flow_id,
    )
    if conn.execute(holder.limit(1)).first() is not None:
        raise Conflict(
            f"another unfinished flow of workflow {row.workflow!r} has the business key {row.business_key!r}; "
            "wait for its end"
        )
