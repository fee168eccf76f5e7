"""Definitions, stored once."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.creation import Insert
from penstock.store.tables import graphs


def publish(
    conn: Connection, graph_id: bytes, workflow: str, definition: str, now: int, insert: Insert
) -> None:
    """Insert a definition, or make a known one its workflow's newest again, whoever does the same at this moment.

    No fence: the row's key is the hash of what it holds, so anybody may write it and nobody can write it wrong.
    """
    row = {"graph_id": graph_id, "workflow": workflow, "definition": definition, "published_at": now}
    if not conn.execute(insert(graphs).values(row)).rowcount:
        conn.execute(sa.update(graphs).where(graphs.c.graph_id == graph_id).values(published_at=now))


def read_definition(conn: Connection, graph_id: bytes) -> str | None:
    """Read one definition by its primary key."""
    return conn.execute(sa.select(graphs.c.definition).where(graphs.c.graph_id == graph_id)).scalar()


def read_newest(conn: Connection, workflow: str) -> tuple[bytes, str] | None:
    """Read what was last published under a name; served by `graphs_workflow`."""
    statement = (
        sa.select(graphs.c.graph_id, graphs.c.definition)
        .where(graphs.c.workflow == workflow)
        .order_by(graphs.c.published_at.desc(), graphs.c.graph_id.desc())
        .limit(1)
    )
    row = conn.execute(statement).first()
    return None if row is None else (bytes(row[0]), str(row[1]))
