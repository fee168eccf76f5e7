"""What is to be told: taken by one engine at a time, and gone when it was delivered."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Notice
from penstock.store.tables import outbox, replicas


def take(
    conn: Connection, topic: str, holder: int, held: Collection[int], now: int, limit: int
) -> list[Notice]:
    """Take what is due, for a holder that delivers the rows *held* already; served by `outbox_due`.

    A row whose holder is no living replica is anybody's: it died between the commit and the end of the delivery.
    """
    living = sa.select(replicas.c.replica_id).where(replicas.c.dead_at.is_(None))
    is_free = outbox.c.holder.is_(None) | (outbox.c.holder == holder) | outbox.c.holder.not_in(living)
    columns = [outbox.c[name] for name in Notice._fields]
    statement = (
        sa.select(*columns)
        .where(outbox.c.topic == topic, outbox.c.due_at <= now, is_free, outbox.c.seq.not_in(held))
        .order_by(outbox.c.due_at, outbox.c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = [Notice(*row) for row in conn.execute(statement)]
    if taken:
        conn.execute(
            sa.update(outbox)
            .where(outbox.c.seq.in_([notice.seq for notice in taken]))
            .values(holder=holder, attempts=outbox.c.attempts + 1)
        )
    return [notice._replace(attempts=notice.attempts + 1) for notice in taken]


def next_due(conn: Connection, topic: str) -> int | None:
    """Read when the next row is due; one entry of `outbox_due`."""
    due: int | None = conn.execute(
        sa.select(sa.func.min(outbox.c.due_at)).where(outbox.c.topic == topic)
    ).scalar()
    return due


def delivered(conn: Connection, seq: int) -> None:
    """Remove a row."""
    conn.execute(sa.delete(outbox).where(outbox.c.seq == seq))


def put_off(conn: Connection, seq: int, due_at: int) -> None:
    """Give a row back, to be taken again at an instant, by anybody."""
    conn.execute(sa.update(outbox).where(outbox.c.seq == seq).values(holder=None, due_at=due_at))
