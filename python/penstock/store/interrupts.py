"""Open questions over all flows, and what became of those that were answered."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Answer, InterruptFilter, InterruptRow, PageOfInterrupts
from penstock.store.tables import flows, inbox, interrupts

_COLUMNS = [interrupts.c[name] for name in InterruptRow._fields]


def list_interrupts(
    conn: Connection, which: InterruptFilter, limit: int, cursor: bytes | None
) -> PageOfInterrupts:
    """Read a page, newest first unless asked otherwise: ids begin with the time, so the primary key gives the order."""
    ident = interrupts.c.interrupt_id
    order = ident.asc() if which.is_oldest_first else ident.desc()
    statement = sa.select(*_COLUMNS).order_by(order).limit(limit + 1)
    for name in ("root_id", "interrupt_id", "node"):
        value = getattr(which, name)
        if value is not None:
            statement = statement.where(interrupts.c[name] == value)
    if which.key is not None:
        own = [column == which.tree for column in (interrupts.c.root_id, interrupts.c.flow_id) if which.tree]
        statement = statement.where(sa.or_(interrupts.c.key == which.key, *own))
    if which.workflow is not None:
        statement = statement.join(flows, flows.c.flow_id == interrupts.c.flow_id)
        statement = statement.where(flows.c.workflow == which.workflow)
    if cursor is not None:
        statement = statement.where(ident > cursor if which.is_oldest_first else ident < cursor)
    items = [InterruptRow(*row) for row in conn.execute(statement)]
    return PageOfInterrupts(items[:limit], items[limit - 1].interrupt_id if len(items) > limit else None)


def read_answer(conn: Connection, root_id: bytes, interrupt_id: bytes) -> Answer | None:
    """Find the message that answered a question of a tree, while messages of flows of that tree are kept."""
    statement = (
        sa.select(inbox.c.seq, inbox.c.sender, inbox.c.answered_at)
        .join(flows, flows.c.flow_id == inbox.c.flow_id)
        .where(flows.c.root_id == root_id, inbox.c.kind == "resume")
        .where(inbox.c.body.like(f'%"interrupt_id":"{interrupt_id.hex()}"%'))
        .where(inbox.c.verdict.like('{"ok":true%'))
        .limit(1)
    )
    row = conn.execute(statement).first()
    return None if row is None else Answer(*row)
