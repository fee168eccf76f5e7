"""Engines: their rows, leases and what they owned."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.identity import ProcessIdentity, this_process
from penstock.store.rows import ReplicaRow, ShardRow
from penstock.store.tables import leases, live, replicas


def insert_replica(conn: Connection, name: str | None, capacity: int, now: int, lease_ms: int) -> int:
    """Enter this process as a new replica, with a lease; the id is minted here and never reused."""
    values = this_process()._asdict() | {"name": name, "capacity": capacity, "started_at": now}
    result = conn.execute(sa.insert(replicas).values(values))
    replica_id = int(result.inserted_primary_key[0])  # type: ignore[index]  # an INSERT of one row has one
    conn.execute(sa.insert(leases).values(replica_id=replica_id, lease_until=now + lease_ms))
    return replica_id


def delete_replicas(conn: Connection, replica_id: int | None = None) -> None:
    """Delete one replica or all of them, with their leases. No flow may name them any more."""
    for table in (leases, replicas):
        statement = sa.delete(table)
        if replica_id is not None:
            statement = statement.where(table.c.replica_id == replica_id)
        conn.execute(statement)


def release_owned(conn: Connection, now: int, replica_id: int | None = None, crashes: int = 0) -> int:
    """Make the flows of one replica, or of all, unowned and ready, and return how many they were.

    A flow that was ready keeps its place in the order of claims. *crashes* is 1 after a death: the flow's tasks are
    then suspected of it. Served by `live_owner`.
    """
    owned = live.c.owner.is_not(None) if replica_id is None else live.c.owner == replica_id
    result = conn.execute(
        sa.update(live)
        .where(owned)
        .values(owner=None, crashes=live.c.crashes + crashes, ready_at=sa.func.coalesce(live.c.ready_at, now))
    )
    return result.rowcount


def renew_lease(conn: Connection, replica_id: int, until: int) -> bool:
    """Put the lease off, unless the replica has been declared dead."""
    is_alive = sa.exists().where(replicas.c.replica_id == replica_id, replicas.c.dead_at.is_(None))
    result = conn.execute(
        sa.update(leases).where(leases.c.replica_id == replica_id, is_alive).values(lease_until=until)
    )
    return result.rowcount == 1


def is_alive(conn: Connection, replica_id: int) -> bool:
    """The fence of every write that is not a batch: until the transaction's end the replica is not declared dead."""
    statement = (
        sa.select(replicas.c.replica_id)
        .where(replicas.c.replica_id == replica_id, replicas.c.dead_at.is_(None))
        .with_for_update(read=True, key_share=True)
    )
    return conn.execute(statement).first() is not None


def has_lease(conn: Connection, now: int) -> bool:
    """Tell whether a replica that nobody declared dead has a lease past *now*; a handful of rows."""
    statement = (
        sa.select(replicas.c.replica_id)
        .join(leases, leases.c.replica_id == replicas.c.replica_id)
        .where(replicas.c.dead_at.is_(None), leases.c.lease_until > now)
        .limit(1)
    )
    return conn.execute(statement).first() is not None


def read_processes(conn: Connection) -> list[ProcessIdentity]:
    """Read in which processes the replicas are that nobody declared dead."""
    columns = [replicas.c[name] for name in ProcessIdentity._fields]
    rows = conn.execute(sa.select(*columns).where(replicas.c.dead_at.is_(None)))
    return [ProcessIdentity(*row) for row in rows]


def read_owned(conn: Connection, replica_id: int) -> dict[bytes, int]:
    """Read the flows of one replica with the number of the claim; served by `live_owner`."""
    rows = conn.execute(sa.select(live.c.flow_id, live.c.claims).where(live.c.owner == replica_id))
    return {bytes(flow_id): claims for flow_id, claims in rows}


def read_shard(conn: Connection) -> ShardRow:
    """Count the flows that have not ended, those of them that wait for an engine, and the engines."""
    ready = live.c.owner.is_(None) & live.c.ready_at.is_not(None)
    counted = conn.execute(
        sa.select(
            sa.func.count(), sa.func.coalesce(sa.func.sum(sa.case((ready, 1), else_=0)), 0)
        ).select_from(live)
    ).one()
    engines = conn.execute(
        sa.select(sa.func.count()).select_from(replicas).where(replicas.c.dead_at.is_(None))
    ).scalar_one()
    return ShardRow(live=int(counted[0]), ready=int(counted[1]), replicas=int(engines))


def read_replicas(conn: Connection) -> list[ReplicaRow]:
    """Read who has registered and not been forgotten, with what each owns."""
    owned = (
        sa.select(live.c.owner, sa.func.count().label("owned"))
        .where(live.c.owner.is_not(None))
        .group_by(live.c.owner)
        .subquery()
    )
    columns = [replicas.c[name] for name in ReplicaRow._fields[:-2]]
    statement = (
        sa.select(*columns, leases.c.lease_until, sa.func.coalesce(owned.c.owned, 0))
        .outerjoin(leases, leases.c.replica_id == replicas.c.replica_id)
        .outerjoin(owned, owned.c.owner == replicas.c.replica_id)
        .order_by(replicas.c.replica_id)
    )
    return [ReplicaRow._make(row) for row in conn.execute(statement)]
