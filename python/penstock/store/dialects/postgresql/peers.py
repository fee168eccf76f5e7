"""Replicas: entering, leases, death, and what the dead owned.

Whoever is declared dead is fenced from the commit of the declaration on. Releasing comes after it, in statements of
their own, because the snapshot of one that did both would be older than the wait for open batches.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg

from penstock.store.dialects.postgresql.connections import Driver, Line, connect, run
from penstock.store.dialects.postgresql.location import Location
from penstock.store.identity import is_gone, this_process

_log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""A declaration that has waited this long for an open batch ends the server process behind it."""
CHUNK = 500

NOW = "coalesce({}::int8, (extract(epoch FROM clock_timestamp()) * 1000)::int8)"
"""The database's clock, unless the store was given one."""

_ENTER = f"""WITH entered AS (
    INSERT INTO penstock_replicas (name, host, boot_id, pid, process_start, capacity, started_at)
    VALUES ($1::text, $2::text, $3::text, $4::int8, $5::int8, $6::int4, {NOW.format("$8")}) RETURNING replica_id, started_at)
INSERT INTO penstock_leases (replica_id, lease_until) SELECT replica_id, started_at + $7::int8 FROM entered
    RETURNING replica_id"""
# Keeps two starts under one name apart; batches, claims and heartbeats go on meanwhile.
_ALONE = b"LOCK TABLE penstock_replicas IN SHARE ROW EXCLUSIVE MODE"
_NAMESAKES = f"""SELECT r.replica_id, r.host, r.boot_id, r.pid, r.process_start,
    coalesce(l.lease_until, 0) < {NOW.format("$2")} FROM penstock_replicas r
    LEFT JOIN penstock_leases l USING (replica_id) WHERE r.name = $1::text AND r.dead_at IS NULL"""
_RENEW = f"""UPDATE penstock_leases SET lease_until = {NOW.format("$3")} + $2::int8 WHERE replica_id = $1::int8
    AND EXISTS (SELECT FROM penstock_replicas WHERE replica_id = $1::int8 AND dead_at IS NULL)
    RETURNING (extract(epoch FROM clock_timestamp()) * 1000)::int8"""
_LAPSED = f"""SELECT r.replica_id FROM penstock_replicas r LEFT JOIN penstock_leases l USING (replica_id)
    WHERE r.dead_at IS NULL AND r.replica_id <> $1::int8 AND coalesce(l.lease_until, 0) < {NOW.format("$2")}
    AND EXISTS (SELECT FROM penstock_replicas m WHERE m.replica_id = $1::int8 AND m.dead_at IS NULL)"""
# FOR UPDATE, not a bare UPDATE: only it waits for batches that hold the fence.
_HOLD = "SELECT 1 FROM penstock_replicas WHERE replica_id = $1::int8 AND dead_at IS NULL FOR UPDATE"
_HAS_LAPSED = f"""SELECT coalesce((SELECT lease_until FROM penstock_leases WHERE replica_id = $1::int8), 0)
    < {NOW.format("$2")}"""
_DIE = f"UPDATE penstock_replicas SET dead_at = {NOW.format('$2')} WHERE replica_id = $1::int8"
_END_BLOCKERS = "SELECT pg_terminate_backend(pid) FROM unnest(pg_blocking_pids($1::int4)) pid"
# Steps from owner to owner along `live_owner`, however many flows each has.
_CORPSES = """WITH RECURSIVE owners AS (
    (SELECT owner FROM penstock_live WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)
    UNION ALL
    SELECT (SELECT l.owner FROM penstock_live l WHERE l.owner > o.owner ORDER BY l.owner LIMIT 1)
    FROM owners o WHERE o.owner IS NOT NULL)
SELECT o.owner FROM owners o WHERE o.owner IS NOT NULL AND NOT EXISTS (
    SELECT FROM penstock_replicas r WHERE r.replica_id = o.owner AND r.dead_at IS NULL)"""
_RELEASE = f"""WITH chunk AS MATERIALIZED (
    SELECT flow_id FROM penstock_live WHERE owner = $1::int8 LIMIT {CHUNK} FOR NO KEY UPDATE SKIP LOCKED)
UPDATE penstock_live l SET owner = NULL, crashes = l.crashes + $2::int4, ready_at = coalesce(l.ready_at, {NOW.format("$3")})
    FROM chunk WHERE l.flow_id = chunk.flow_id"""
_BURY = """DELETE FROM penstock_replicas r WHERE r.dead_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM penstock_live l WHERE l.owner = r.replica_id)"""
_LEAVE = "DELETE FROM penstock_replicas WHERE replica_id = $1::int8"
_FORGET_LEASES = """DELETE FROM penstock_leases l WHERE NOT EXISTS (
    SELECT FROM penstock_replicas r WHERE r.replica_id = l.replica_id)"""


class Namesake(NamedTuple):
    """A living replica of the same name."""

    replica_id: int
    host: str
    boot_id: str
    pid: int
    process_start: int
    has_lapsed: bool

    @property
    def may_be_declared(self) -> bool:
        """Whether its lease has lapsed, or its process is known to be gone."""
        return self.has_lapsed or is_gone(self.host, self.boot_id, self.pid, self.process_start)


def find_namesakes(driver: Driver, name: str, now: int | None) -> list[Namesake]:
    """Read the replicas of a name that nobody has declared dead."""
    return [Namesake(*row) for row in run(driver, _NAMESAKES, [name, now])]


def enter(line: Line, name: str | None, capacity: int, lease_ms: int, now: int | None) -> int | None:
    """Insert a replica with its lease and return its new id; None when another of its name lives."""
    with line.transaction() as driver:
        driver.execute(_ALONE)
        if name is not None and find_namesakes(driver, name, now):
            return None
        row = run(driver, _ENTER, [name, *this_process(), capacity, lease_ms, now]).fetchone()
    assert row is not None
    return int(row[0])


def renew(driver: Driver, replica_id: int, lease_ms: int, now: int | None) -> int | None:
    """Put the lease off, and return the database's clock; None when the replica has been declared dead."""
    row = run(driver, _RENEW, [replica_id, lease_ms, now]).fetchone()
    return None if row is None else int(row[0])


def find_lapsed(driver: Driver, replica_id: int, now: int | None) -> list[int]:
    """Read whose lease has lapsed; nobody's when *replica_id* itself is dead."""
    return [row[0] for row in run(driver, _LAPSED, [replica_id, now])]


def declare_dead(
    line: Line,
    location: Location,
    replica_id: int,
    still: Callable[[Driver], bool],
    now: int | None,
    patience_s: float,
) -> bool:
    """Declare one replica dead in a transaction of its own; False when it was, or when *still* says no.

    *still* is asked once the row is held: no batch of the replica is open then and none can begin.
    """
    with line.transaction() as driver:
        blocked = _one(run(driver, "SELECT pg_backend_pid()").fetchone())
        timer = threading.Timer(patience_s, _end_blockers, [location, blocked])
        timer.daemon = True
        timer.start()
        try:
            is_held = run(driver, _HOLD, [replica_id]).fetchone() is not None
        finally:
            timer.cancel()
        if not is_held or not still(driver):
            return False
        run(driver, _DIE, [replica_id, now])
    _log.warning("Replica %d is declared dead.", replica_id)
    return True


def has_lapsed(driver: Driver, replica_id: int, now: int | None) -> bool:
    """Look at a lease again."""
    return bool(_one(run(driver, _HAS_LAPSED, [replica_id, now]).fetchone()))


def release_dead(driver: Driver, now: int | None) -> int:
    """Release a chunk of each dead owner's flows and return how many they were; rows that are locked wait."""
    corpses = [row[0] for row in run(driver, _CORPSES)]
    return sum(release(driver, corpse, 1, now) for corpse in corpses)


def release(driver: Driver, replica_id: int, crashes: int, now: int | None) -> int:
    """Release a chunk of one replica's flows; served by `live_owner`. A flow that was ready keeps its place."""
    return run(driver, _RELEASE, [replica_id, crashes, now]).rowcount


def bury(driver: Driver) -> None:
    """Delete the dead whom no flow names."""
    if run(driver, _BURY).rowcount:
        run(driver, _FORGET_LEASES)


def leave(driver: Driver, replica_id: int) -> None:
    """Unregister a replica; a flow that it could not release is released by others."""
    run(driver, _LEAVE, [replica_id])
    run(driver, _FORGET_LEASES)


def _end_blockers(location: Location, pid: int) -> None:
    """End the server processes behind whose locks *pid* waits: a replica that is stopped in the middle of a batch."""
    try:
        with connect(location) as driver:
            ended = run(driver, _END_BLOCKERS, [pid]).rowcount
        _log.warning("Ended %d server processes that held up a death declaration.", ended)
    except psycopg.Error as error:
        _log.warning("The server process in the way of a death declaration is not ended: %s", error)


def _one(row: tuple[Any, ...] | None) -> Any:
    assert row is not None
    return row[0]
