"""What became of messages. Sending and reading them is the dialect's."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Verdict
from penstock.store.tables import inbox

KEEP_ANSWERED_MS = 10 * 60 * 1000
"""How long an answered message stays, so that a caller that was away finds its verdict."""

_CHUNK = 200


def read_verdicts(
    conn: Connection, messages: Sequence[tuple[bytes, int]]
) -> dict[tuple[bytes, int], Verdict]:
    """Read what the owners wrote, by primary key, some hundred at a time."""
    found: dict[tuple[bytes, int], Verdict] = {}
    for start in range(0, len(messages), _CHUNK):
        wanted = [
            sa.and_(inbox.c.flow_id == flow_id, inbox.c.seq == seq)
            for flow_id, seq in messages[start : start + _CHUNK]
        ]
        statement = sa.select(inbox.c.flow_id, inbox.c.seq, inbox.c.answered_at, inbox.c.verdict)
        for row in conn.execute(statement.where(sa.or_(*wanted))):
            found[bytes(row[0]), row[1]] = Verdict(row[2], row[3])
    return found


def delete_answered(conn: Connection, now: int, limit: int) -> int:
    """Delete messages answered long ago, oldest first; served by `inbox_answered`."""
    old = (
        sa.select(inbox.c.flow_id, inbox.c.seq)
        .where(inbox.c.answered_at < now - KEEP_ANSWERED_MS)
        .order_by(inbox.c.answered_at)
        .limit(limit)
    )
    keys = [{"old_flow": row[0], "old_seq": row[1]} for row in conn.execute(old)]
    if keys:
        statement = sa.delete(inbox).where(
            inbox.c.flow_id == sa.bindparam("old_flow"), inbox.c.seq == sa.bindparam("old_seq")
        )
        conn.execute(statement, keys)
    return len(keys)
