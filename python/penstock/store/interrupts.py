"""Open questions over all flows."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import InterruptFilter, InterruptRow, PageOfInterrupts
from penstock.store.tables import flows, interrupts

_COLUMNS = [interrupts.c[name] for name in InterruptRow._fields]


def list_interrupts(
    conn: Connection, which: InterruptFilter, limit: int, cursor: bytes | None
) -> PageOfInterrupts:
    """Read a page, newest first: ids begin with the time, so the primary key gives the order."""
    statement = sa.select(*_COLUMNS).order_by(interrupts.c.interrupt_id.desc()).limit(limit + 1)
    for name in ("root_id", "node", "key"):
        value = getattr(which, name)
        if value is not None:
            statement = statement.where(interrupts.c[name] == value)
    if which.workflow is not None:
        statement = statement.join(flows, flows.c.flow_id == interrupts.c.flow_id)
        statement = statement.where(flows.c.workflow == which.workflow)
    if cursor is not None:
        statement = statement.where(interrupts.c.interrupt_id < cursor)
    items = [InterruptRow(*row) for row in conn.execute(statement)]
    return PageOfInterrupts(items[:limit], items[limit - 1].interrupt_id if len(items) > limit else None)
