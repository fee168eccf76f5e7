"""Flows with a unique key of the user's: never in the group commit, where a collision would refuse everybody."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from penstock.errors import Conflict
from penstock.store.batch import FLOW_COLUMNS, JOURNAL_COLUMNS, LIVE_COLUMNS, Row
from penstock.store.failures import KeyTaken
from penstock.store.rows import Created, NewFlow
from penstock.store.tables import flows, journal, live

Insert = Callable[[sa.Table], Any]
"""An INSERT that leaves out rows whose key is taken, in the dialect's words."""

_ATTEMPTS = 3
"""A flow whose key was taken may be gone again when it is looked for."""
_TURN_ATTEMPTS = 1_000
"""The next turn may be taken as often as others join the thread at this moment."""


def create_flows(conn: Connection, new: Sequence[NewFlow], insert: Insert) -> list[Created]:
    """Insert flows in the caller's transaction, which must be rolled back when this raises.

    Raises:
        Conflict: A key is taken: by a flow that was asked otherwise, by another turn, or by an unfinished flow.
    """
    if len(new) > 1 and not any(
        flow.idempotency_key or flow.business_key or flow.is_next_turn for flow in new
    ):
        return _insert_all(conn, new)
    return [_create(conn, flow, insert) for flow in new]


def _create(conn: Connection, new: NewFlow, insert: Insert) -> Created:
    """Insert a flow, or find the one that has its idempotency key, whoever inserts it at the same moment."""
    for _ in range(_TURN_ATTEMPTS if new.is_next_turn else _ATTEMPTS):
        same = _find_same(conn, new)
        if same is not None:
            return same
        values = _values(conn, new)
        if conn.execute(insert(flows).values(values)).rowcount:
            conn.execute(sa.insert(live).values(_named(LIVE_COLUMNS, new.live)))
            for event in new.journal:
                conn.execute(sa.insert(journal).values(_named(JOURNAL_COLUMNS, event)))
            return Created(new.row[0], is_new=True)
        same = _find_same(conn, new)
        if same is not None:
            return same
        is_hopeless = new.idempotency_key is None or _is_taken(conn, new, values)
        if is_hopeless and not new.is_next_turn:
            break
    raise _conflict(conn, new, values)


def _find_same(conn: Connection, new: NewFlow) -> Created | None:
    """Find the flow that the idempotency key names; served by `flows_idempotency`."""
    if new.idempotency_key is None:
        return None
    statement = sa.select(flows.c.flow_id, flows.c.idempotency_hash).where(
        flows.c.idempotency_key == new.idempotency_key
    )
    row = conn.execute(statement).first()
    if row is None:
        return None
    if row[1] != new.idempotency_hash:
        raise Conflict(
            f"Idempotency key {new.idempotency_key!r} was used for a flow with another workflow or input; "
            "use a key of its own for each thing asked."
        )
    return Created(bytes(row[0]), is_new=False)


def _insert_all(conn: Connection, new: Sequence[NewFlow]) -> list[Created]:
    """Insert flows without keys of the user's: a statement a table, whatever their number."""
    values = [_values(conn, flow) for flow in new]
    try:
        conn.execute(sa.insert(flows), values)
    except IntegrityError as error:
        raise Conflict("A flow with this id exists already.") from error
    conn.execute(sa.insert(live), [_named(LIVE_COLUMNS, flow.live) for flow in new])
    events = [_named(JOURNAL_COLUMNS, event) for flow in new for event in flow.journal]
    if events:
        conn.execute(sa.insert(journal), events)
    return [Created(flow.row[0], is_new=True) for flow in new]


def _values(conn: Connection, new: NewFlow) -> dict[str, Any]:
    values = _named(FLOW_COLUMNS, new.row)
    values |= {
        "updated_at": values["created_at"],
        "idempotency_key": new.idempotency_key,
        "idempotency_hash": new.idempotency_hash,
        "business_key": new.business_key,
        "business_open": new.business_key,
    }
    if new.is_next_turn:
        values["turn"] = _next_turn(conn, values["thread_id"])
    return values


def _is_taken(conn: Connection, new: NewFlow, values: dict[str, Any]) -> bool:
    """Whether something other than the idempotency key stands in the way."""
    taken = [flows.c.flow_id == new.row[0]]
    if values["thread_id"] is not None:
        taken.append((flows.c.thread_id == values["thread_id"]) & (flows.c.turn == values["turn"]))
    if new.business_key is not None:
        taken.append((flows.c.workflow == values["workflow"]) & (flows.c.business_open == new.business_key))
    return conn.execute(sa.select(flows.c.flow_id).where(sa.or_(*taken)).limit(1)).first() is not None


def _named(columns: str, row: Row) -> dict[str, Any]:
    return dict(zip(columns.split(", "), row, strict=True))


def _next_turn(conn: Connection, thread_id: object) -> int:
    """One more than the last turn of the thread; of two that compute the same, the unique index lets one through."""
    statement = sa.select(sa.func.max(flows.c.turn)).where(flows.c.thread_id == thread_id)
    return int(conn.execute(statement).scalar() or 0) + 1


def _conflict(conn: Connection, new: NewFlow, values: dict[str, Any]) -> Conflict:
    if new.business_key is not None:
        statement = sa.select(flows.c.flow_id).where(
            flows.c.workflow == values["workflow"], flows.c.business_open == new.business_key
        )
        row = conn.execute(statement).first()
        if row is not None:
            return KeyTaken(values["workflow"], new.business_key, bytes(row[0]))
    if values["thread_id"] is not None:
        return Conflict(f"Turn {values['turn']} of the thread is taken: somebody else continued it first.")
    return Conflict("A flow with this id or key exists already.")
