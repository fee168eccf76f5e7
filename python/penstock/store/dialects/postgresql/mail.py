"""Messages: sent by one statement, read in one snapshot."""

from collections.abc import Mapping, Sequence

from penstock.store.dialects.postgresql.connections import Driver, run
from penstock.store.dialects.postgresql.parameters import long_array, uuid_array
from penstock.store.rows import Ended, Mail, Sent

# An unowned flow becomes ready, so that somebody claims it and reads. No row: the flow has ended.
_SEND = """WITH counted AS (
    UPDATE penstock_live SET mail = mail + 1, mail_at = coalesce(mail_at, $2::int8),
        ready_at = CASE WHEN owner IS NULL THEN coalesce(ready_at, $2::int8) ELSE ready_at END
    WHERE flow_id = $1::uuid RETURNING flow_id, mail)
INSERT INTO penstock_inbox (flow_id, seq, kind, body, sender, created_at)
    SELECT flow_id, mail, $3::text, $4::text, $5::text, $2::int8 FROM counted RETURNING seq"""
_STATUS = "SELECT status FROM penstock_flows WHERE flow_id = $1::uuid"
_READ = """SELECT l.flow_id, l.mail, i.seq, i.kind, i.body FROM penstock_live l
    LEFT JOIN unnest($2::uuid[], $3::int8[]) d(flow_id, seq) ON d.flow_id = l.flow_id
    LEFT JOIN penstock_inbox i ON i.flow_id = l.flow_id AND i.answered_at IS NULL AND i.seq > coalesce(d.seq, 0)
    WHERE l.owner = $1::int8 AND l.mail_at IS NOT NULL ORDER BY l.flow_id, i.seq"""
_MAIL_OF = """SELECT l.flow_id, l.mail, i.seq, i.kind, i.body FROM penstock_live l
    LEFT JOIN penstock_inbox i ON i.flow_id = l.flow_id AND i.answered_at IS NULL
    WHERE l.flow_id = ANY ($1::uuid[]) ORDER BY l.flow_id, i.seq"""


def send(
    driver: Driver, flow_id: bytes, kind: str, body: str, sender: str | None, at: int
) -> Sent | Ended | None:
    """Add a message, or say why there is nobody to read it."""
    sent = run(driver, _SEND, [flow_id, at, kind, body, sender]).fetchone()
    if sent is not None:
        return Sent(sent[0])
    status = run(driver, _STATUS, [flow_id]).fetchone()
    return None if status is None else Ended(status[0])


def read_mail(driver: Driver, owner: int, delivered: Mapping[bytes, int]) -> list[Mail]:
    """Read what *owner* has not been given yet; served by `live_mail` and `inbox_unread`."""
    return _mails(driver, _READ, [owner, uuid_array(delivered), long_array(delivered.values())])


def mail_of(driver: Driver, flow_ids: Sequence[bytes]) -> list[Mail]:
    """Read all unread messages of some flows; what has no live row is left out."""
    mails = {mail.flow_id: mail for mail in _mails(driver, _MAIL_OF, [uuid_array(flow_ids)])}
    return [mails[flow_id] for flow_id in flow_ids if flow_id in mails]


def _mails(driver: Driver, statement: str, parameters: Sequence[object]) -> list[Mail]:
    mails: dict[bytes, Mail] = {}
    for flow_id, seen, seq, kind, body in run(driver, statement, parameters):
        mail = mails.setdefault(flow_id, Mail(flow_id, seen, []))
        if seq is not None:
            mail.messages.append((seq, kind, body))
    return list(mails.values())
