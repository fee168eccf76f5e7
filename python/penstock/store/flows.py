"""Reading flows: one, many, a tree."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.outcome import FINISHED
from penstock.store.rows import OutcomeRow
from penstock.store.tables import flows

_CHUNK = 500
_COLUMNS = [flows.c[name] for name in OutcomeRow._fields]


def read_outcome(conn: Connection, flow_id: bytes) -> OutcomeRow | None:
    """Read one flow by its primary key."""
    row = conn.execute(sa.select(*_COLUMNS).where(flows.c.flow_id == flow_id)).first()
    return None if row is None else OutcomeRow(*row)


def read_outcomes(conn: Connection, flow_ids: Collection[bytes]) -> dict[bytes, OutcomeRow]:
    """Read many flows by primary key, some hundred at a time."""
    wanted, found = list(flow_ids), {}
    for start in range(0, len(wanted), _CHUNK):
        statement = sa.select(*_COLUMNS).where(flows.c.flow_id.in_(wanted[start : start + _CHUNK]))
        for row in conn.execute(statement):
            found[bytes(row[0])] = OutcomeRow(*row)
    return found


def read_latest_turn(conn: Connection, thread_id: bytes) -> OutcomeRow | None:
    """Read the last turn of a thread, by `flows_thread`. A fork has no turn."""
    turns = sa.select(*_COLUMNS).where(flows.c.thread_id == thread_id, flows.c.turn.is_not(None))
    row = conn.execute(turns.order_by(flows.c.turn.desc()).limit(1)).first()
    return None if row is None else OutcomeRow(*row)


def read_tree(conn: Connection, root_id: bytes) -> list[OutcomeRow]:
    """Read a root by its key and what is below it by `flows_root`, oldest first."""
    below = (flows.c.root_id == root_id) & flows.c.parent_id.is_not(None)
    statement = sa.select(*_COLUMNS).where((flows.c.flow_id == root_id) | below).order_by(flows.c.flow_id)
    return [OutcomeRow(*row) for row in conn.execute(statement)]


def has_live_children(conn: Connection, root_id: bytes) -> bool:
    """Look for one below a root that has not finished, by `flows_root`."""
    below = (flows.c.root_id == root_id) & flows.c.parent_id.is_not(None)
    statement = sa.select(flows.c.flow_id).where(below, flows.c.status.not_in(sorted(FINISHED))).limit(1)
    return conn.execute(statement).first() is not None
