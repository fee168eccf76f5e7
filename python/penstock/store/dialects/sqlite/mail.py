"""Messages: sent in two statements under one write lock, read in one snapshot."""

import sqlite3
from collections.abc import Mapping, Sequence

from penstock.store.rows import Ended, Mail, Sent

# An unowned flow becomes ready, so that somebody claims it and reads.
_COUNT = """UPDATE penstock_live SET mail = mail + 1, mail_at = coalesce(mail_at, ?2),
    ready_at = CASE WHEN owner IS NULL THEN coalesce(ready_at, ?2) ELSE ready_at END WHERE flow_id = ?1"""
_POST = """INSERT INTO penstock_inbox (flow_id, seq, kind, body, sender, created_at)
    VALUES (?, ?, ?, ?, ?, ?)"""
_STATUS = "SELECT status FROM penstock_flows WHERE flow_id = ?"
_WITH_MAIL = "SELECT flow_id, mail FROM penstock_live WHERE owner = ? AND mail_at IS NOT NULL"
_MAIL = "SELECT mail FROM penstock_live WHERE flow_id = ?"
_UNREAD = """SELECT seq, kind, body FROM penstock_inbox WHERE flow_id = ? AND seq > ? AND answered_at IS NULL
    ORDER BY seq"""


def post(
    driver: sqlite3.Connection, flow_id: bytes, kind: str, body: str, sender: str | None, at: int
) -> int | None:
    """Add a message in the caller's transaction and return its number; None where no live row is."""
    if not driver.execute(_COUNT, (flow_id, at)).rowcount:
        return None
    seq = int(driver.execute(_MAIL, (flow_id,)).fetchone()[0])
    driver.execute(_POST, (flow_id, seq, kind, body, sender, at))
    return seq


def send(
    driver: sqlite3.Connection, flow_id: bytes, kind: str, body: str, sender: str | None, at: int
) -> Sent | Ended | None:
    """Add a message, or say why there is nobody to read it."""
    seq = post(driver, flow_id, kind, body, sender, at)
    if seq is not None:
        return Sent(seq)
    status = driver.execute(_STATUS, (flow_id,)).fetchone()
    return None if status is None else Ended(status[0])


def read_mail(driver: sqlite3.Connection, owner: int, delivered: Mapping[bytes, int]) -> list[Mail]:
    """Read what *owner* has not been given yet; served by `live_mail` and `inbox_unread`."""
    mails = []
    for flow_id, seen in driver.execute(_WITH_MAIL, (owner,)).fetchall():
        known = delivered.get(flow_id, 0)
        unread = driver.execute(_UNREAD, (flow_id, known)).fetchall() if seen > known else []
        mails.append(Mail(flow_id, seen, unread))
    return mails


def mail_of(driver: sqlite3.Connection, flow_ids: Sequence[bytes]) -> list[Mail]:
    """Read all unread messages of some flows; what has no live row is left out."""
    mails = []
    for flow_id in flow_ids:
        seen = driver.execute(_MAIL, (flow_id,)).fetchone()
        if seen is not None:
            mails.append(Mail(flow_id, seen[0], driver.execute(_UNREAD, (flow_id, 0)).fetchall()))
    return mails
