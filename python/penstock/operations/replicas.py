"""Who runs the flows of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.operations.read import instant
from penstock.outcome import ReplicaInfo

if TYPE_CHECKING:
    from penstock.operations.context import Context
    from penstock.store.rows import ReplicaRow


def replicas(context: Context) -> tuple[ReplicaInfo, ...]:
    """Read the engines of a database, oldest registration first; the dead of whom flows are left too."""
    return tuple(map(_info, context.store.replicas()))


def _info(row: ReplicaRow) -> ReplicaInfo:
    started_at = instant(row.started_at)
    assert started_at is not None
    return ReplicaInfo(
        replica_id=row.replica_id,
        name=row.name,
        host=row.host,
        pid=row.pid,
        started_at=started_at,
        lease_until=None if row.dead_at is not None else instant(row.lease_until),
        owned=row.owned,
    )
