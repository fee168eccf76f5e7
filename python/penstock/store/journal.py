"""The history of a flow, for readers. Writing it is the dialect's, in `commit`."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import JournalRow
from penstock.store.tables import journal

SNAPSHOT = "snapshot"
"""The event at which replay begins."""

_COLUMNS = [journal.c[name] for name in JournalRow._fields]


def read_journal(conn: Connection, flow_id: bytes, after: int) -> list[JournalRow]:
    """Read the events past ord *after*: a range of the primary key."""
    statement = (
        sa.select(*_COLUMNS)
        .where(journal.c.flow_id == flow_id, journal.c.ord > after)
        .order_by(journal.c.ord)
    )
    return [JournalRow(*row) for row in conn.execute(statement)]
