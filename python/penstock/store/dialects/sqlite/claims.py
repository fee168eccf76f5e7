"""Which flows to take, and what replay needs of them."""

import sqlite3
from collections.abc import Collection, Sequence

from penstock.store.journal import SNAPSHOT
from penstock.store.rows import Claimed, LoadRow, Look

_PROMOTE = """UPDATE penstock_live SET ready_at = coalesce(ready_at, wake_at), wake_at = NULL WHERE flow_id IN
    (SELECT flow_id FROM penstock_live WHERE owner IS NULL AND wake_at <= ? ORDER BY wake_at LIMIT 1000)"""
_LANE = """SELECT flow_id, claims + 1, graph_id FROM penstock_live WHERE owner IS NULL AND {column} IS NOT NULL
    AND format <= ? {exclude} ORDER BY {order} LIMIT ?"""
_TAKE = "UPDATE penstock_live SET owner = ?, claims = claims + 1 WHERE flow_id = ?"
_GIVE_BACK = """UPDATE penstock_live SET owner = NULL, ready_at = coalesce(ready_at, ?)
    WHERE flow_id = ? AND owner = ? AND claims = ?"""
_LOOK = """SELECT
    EXISTS (SELECT 1 FROM penstock_live WHERE owner = ? AND mail_at IS NOT NULL),
    EXISTS (SELECT 1 FROM penstock_live WHERE owner IS NULL AND mail_at IS NOT NULL),
    EXISTS (SELECT 1 FROM penstock_live WHERE owner IS NULL AND ready_at IS NOT NULL),
    (SELECT min(wake_at) FROM penstock_live WHERE owner IS NULL AND wake_at IS NOT NULL)"""
_FLOW = """SELECT f.flow_id, coalesce(l.claims, 0), coalesce(l.crashes, 0), coalesce(l.mail, 0), f.graph_id, f.workflow,
    f.root_id, f.parent_id, f.parent_step, f.status, f.priority, f.fairness_key, f.fairness_weight, f.time_budget_ms,
    f.input, f.baggage, f.trace_parent, f.created_at, f.thread_id, f.notify, f.delete_on_completion
    FROM penstock_flows f LEFT JOIN penstock_live l ON l.flow_id = f.flow_id WHERE f.flow_id = ?"""
# Backwards, so that reading ends at the last snapshot however long the history is.
_JOURNAL = """SELECT ord, step, node, event, attempt, at, body FROM penstock_journal WHERE flow_id = ?
    ORDER BY ord DESC"""

_MAIL_LANE = ("mail_at", "mail_at")
_READY_LANE = ("ready_at", "priority, fairness_key, ready_at, flow_id")


def promote(driver: sqlite3.Connection, now: int) -> None:
    """Make up to 1 000 due flows ready; served by `live_wake`. Harmless by whom and how often it is done."""
    driver.execute(_PROMOTE, (now,))


def take_mail_lane(
    driver: sqlite3.Connection, owner: int, limit: int, exclude: Collection[bytes], max_format: int
) -> list[Claimed]:
    """Claim flows with unread mail, longest waiting first; served by `live_mail`."""
    return _take(driver, owner, _MAIL_LANE, limit, exclude, max_format)


def take_ready(
    driver: sqlite3.Connection, owner: int, limit: int, exclude: Collection[bytes], max_format: int
) -> list[Claimed]:
    """Claim flows with work, best band first; served by `live_ready`."""
    return _take(driver, owner, _READY_LANE, limit, exclude, max_format)


def _take(
    driver: sqlite3.Connection,
    owner: int,
    lane: tuple[str, str],
    limit: int,
    exclude: Collection[bytes],
    max_format: int,
) -> list[Claimed]:
    if limit <= 0:
        return []
    marks = ", ".join("?" * len(exclude))
    statement = _LANE.format(
        column=lane[0], order=lane[1], exclude=f"AND graph_id NOT IN ({marks})" if exclude else ""
    )
    taken = [Claimed(*row) for row in driver.execute(statement, (max_format, *exclude, limit))]
    driver.executemany(_TAKE, [(owner, claim.flow_id) for claim in taken])
    return taken


def give_back(driver: sqlite3.Connection, owner: int, claims: Sequence[Claimed], now: int) -> None:
    """Release flows just claimed, as they were."""
    driver.executemany(_GIVE_BACK, [(now, claim.flow_id, owner, claim.claims) for claim in claims])


def look(driver: sqlite3.Connection, owner: int) -> Look:
    """Probe four indexes, one entry each."""
    own, unowned, ready, wake_at = driver.execute(_LOOK, (owner,)).fetchone()
    return Look(bool(own), bool(unowned), bool(ready), wake_at)


def load(driver: sqlite3.Connection, flow_ids: Sequence[bytes], *, complete: bool) -> list[LoadRow]:
    """Read flows one by one: two ranges of primary keys each."""
    rows = []
    for flow_id in flow_ids:
        flow = driver.execute(_FLOW, (flow_id,)).fetchone()
        if flow is not None:
            events = _events(driver, flow_id, complete=complete)
            rows.append(LoadRow._make((*flow[:-1], bool(flow[-1]), events)))
    return rows


def _events(
    driver: sqlite3.Connection, flow_id: bytes, *, complete: bool
) -> list[tuple[int, int, str, str, int, int, str]]:
    events = []
    for event in driver.execute(_JOURNAL, (flow_id,)):
        events.append(event)
        if event[3] == SNAPSHOT and not complete:
            break
    events.reverse()
    return events
