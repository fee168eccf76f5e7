"""The group commit: one transaction, a handful of `executemany`."""

import sqlite3
from collections.abc import Iterable, Sequence

from penstock.store.batch import (
    FLOW_COLUMNS,
    INTERRUPT_COLUMNS,
    JOURNAL_COLUMNS,
    LIVE_COLUMNS,
    OUTBOX_COLUMNS,
    Batch,
    Committed,
    Fenced,
    Row,
)
from penstock.store.dialects.sqlite.mail import post


def _insert(table: str, columns: str, extra: str = "", values: str = "") -> str:
    marks = ", ".join(f"?{n}" for n in range(1, columns.count(",") + 2))
    return f"INSERT INTO penstock_{table} ({columns}{extra}) VALUES ({marks}{values})"


FENCE = "SELECT 1 FROM penstock_replicas WHERE replica_id = ? AND dead_at IS NULL"

# updated_at of a new flow is its created_at, the 21st column.
_FLOWS = _insert("flows", FLOW_COLUMNS, ", updated_at", ", ?21")
_LIVE = _insert("live", LIVE_COLUMNS)
_JOURNAL = _insert("journal", JOURNAL_COLUMNS)
_INTERRUPTS = _insert("interrupts", INTERRUPT_COLUMNS)
_OUTBOX = _insert("outbox", OUTBOX_COLUMNS)
# A flow that is to be deleted on completion stays readable for a minute.
_STOPS = """UPDATE penstock_flows SET status = ?1, output = ?2, error = ?3, cancel_reason = ?4, position = ?5,
    stopped_at = ?6, updated_at = ?6, business_open = NULL,
    delete_at = CASE WHEN delete_on_completion AND ?1 = 'completed' THEN ?6 + 60000 ELSE delete_at END WHERE flow_id = ?7"""
# What a stop has written goes when a finished flow lives again; of the others it changes nothing.
_STATUSES = """UPDATE penstock_flows SET status = ?, position = ?, updated_at = ?, output = NULL, error = NULL,
    cancel_reason = NULL, stopped_at = NULL, delete_at = NULL, business_open = business_key WHERE flow_id = ?"""
_CALMED = "UPDATE penstock_live SET crashes = 0 WHERE flow_id = ? AND owner = ? AND claims = ?"
_LIVE_DELETES = "DELETE FROM penstock_live WHERE flow_id = ? AND owner = ? AND claims = ? AND mail = ?"
# mail = seen: the owner has read everything, so nothing is unread any more.
_RELEASES = """UPDATE penstock_live SET owner = NULL, ready_at = ?, wake_at = ?, mail_at = NULL
    WHERE flow_id = ? AND owner = ? AND claims = ? AND mail = ?"""
_VERDICTS = "UPDATE penstock_inbox SET answered_at = ?, verdict = ? WHERE flow_id = ? AND seq = ?"
_MAIL_READ = """UPDATE penstock_live SET mail_at = NULL WHERE flow_id = ?1 AND mail_at IS NOT NULL AND NOT EXISTS
    (SELECT 1 FROM penstock_inbox WHERE flow_id = ?1 AND answered_at IS NULL)"""
_INTERRUPT_DELETES = "DELETE FROM penstock_interrupts WHERE interrupt_id = ?"

_GUARD = "SELECT owner, claims, mail FROM penstock_live WHERE flow_id = ?"
_EVENT = "SELECT event, replica, body FROM penstock_journal WHERE flow_id = ? AND ord = ?"
_IS_FLOW = "SELECT 1 FROM penstock_flows WHERE flow_id = ?"


class _GuardError(Exception):
    """A guarded row was not as its owner remembers it."""


def commit(driver: sqlite3.Connection, batch: Batch, replica_id: int) -> Committed | Fenced:
    """Write *batch*, hopefully at once; else look which guards fail and write it without their units."""
    driver.execute("BEGIN IMMEDIATE")
    try:
        if driver.execute(FENCE, (replica_id,)).fetchone() is None:
            return Fenced(replica_id)
        try:
            _write(driver, batch)
            refused: list[int] = []
        except _GuardError:
            driver.execute("ROLLBACK")
            driver.execute("BEGIN IMMEDIATE")
            # Looked up under the write lock, so the second attempt meets what was looked at.
            refused = _failing_units(driver, batch)
            _write(driver, batch.without(set(refused)))
        except sqlite3.IntegrityError:
            driver.execute("ROLLBACK")
            driver.execute("BEGIN")
            committed = _find_committed(driver, batch)
            if committed is None:
                raise
            return committed
        driver.execute("COMMIT")
        return Committed(tuple(refused))
    finally:
        if driver.in_transaction:
            driver.execute("ROLLBACK")


def _write(driver: sqlite3.Connection, batch: Batch) -> None:
    """Run the statements in an order in which a message meets the row as the batch leaves it."""
    _many(driver, _FLOWS, batch.flows)
    _many(driver, _LIVE, batch.live)
    _many(driver, _JOURNAL, batch.journal)
    _guarded(driver, _CALMED, batch.calmed)
    _many(driver, _STOPS, batch.stops)
    _guarded(driver, _LIVE_DELETES, batch.live_deletes)
    _guarded(driver, _RELEASES, batch.releases)
    _many(driver, _STATUSES, batch.statuses)
    for message in batch.messages:
        post(driver, *message)
    verdicts = batch.verdicts
    _many(driver, _VERDICTS, verdicts)
    _many(driver, _MAIL_READ, [(flow_id,) for flow_id in {row[2] for row in verdicts}])
    _many(driver, _INTERRUPTS, batch.interrupts)
    _many(driver, _INTERRUPT_DELETES, batch.interrupt_deletes)
    _many(driver, _OUTBOX, batch.outbox)


def _many(driver: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> None:
    if rows:
        driver.executemany(statement, rows)


def _guarded(driver: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> None:
    if rows and driver.executemany(statement, rows).rowcount != len(rows):
        raise _GuardError


def _failing_units(driver: sqlite3.Connection, batch: Batch) -> list[int]:
    failing = set()
    for unit, flow_id, owner, claims, mail in batch.guards():
        found = driver.execute(_GUARD, (flow_id,)).fetchone()
        if found is None or found[:2] != (owner, claims) or mail not in (None, found[2]):
            failing.add(unit)
    return sorted(failing)


def _find_committed(driver: sqlite3.Connection, batch: Batch) -> Committed | None:
    """Tell whether *batch* stands in the database already, because the answer to an earlier attempt was lost.

    What that attempt refused is missing now. None: a row that conflicts is not ours, or nothing stands.
    """
    found, missing = False, set()
    for flow_id, ord_, _step, _node, event, _attempt, replica, *_, body in batch.journal:
        row = driver.execute(_EVENT, (flow_id, ord_)).fetchone()
        if row is None:
            missing.add(flow_id)
        elif row != (event, replica, body):
            return None
        else:
            found = True
    for flow in batch.flows:
        if driver.execute(_IS_FLOW, (flow[0],)).fetchone() is None:
            missing.add(flow[0])
        else:
            found = True
    refused = sorted({unit for unit, flow_id, *_ in batch.guards() if flow_id in missing})
    if not found or _touches(batch.without(set(refused)), missing):
        return None
    return Committed(tuple(refused))


def _touches(batch: Batch, flow_ids: Iterable[bytes]) -> bool:
    written = {row[0] for row in batch.journal} | {row[0] for row in batch.flows}
    return not written.isdisjoint(flow_ids)
