"""The group commit: one statement for the whole of a batch.

The fence is read FOR KEY SHARE, so that a death is declared before or after the batch, never during it. The live
rows that the batch touches, its own and those of others, are taken in the order of their keys and with SKIP LOCKED:
a batch waits for nobody's row, and two batches cannot wait for each other. A unit of which a row was not obtained,
or not found as its owner remembers it, is left out whole.

Every row is touched once: PostgreSQL applies only one of several updates of a row in one statement, and none to a row
that the statement inserts.
"""

from functools import cache

from penstock.store.batch import (
    FLOW_COLUMNS,
    INTERRUPT_COLUMNS,
    JOURNAL_COLUMNS,
    LIVE_COLUMNS,
    OUTBOX_COLUMNS,
)
from penstock.store.dialects.postgresql.parameters import GROUPS

UPDATES = 1 << 16
"""Flag of `kinds`: a touched row is changed."""
DELETES = 1 << 17
"""Flag of `kinds`: a touched row is deleted."""

_BITS = {group.name: 1 << bit for bit, group in enumerate(GROUPS)}

_FENCE = """fence AS MATERIALIZED (
    SELECT replica_id FROM penstock_replicas WHERE replica_id = $1::int8 AND dead_at IS NULL FOR KEY SHARE)"""
_NEED = "need AS MATERIALIZED (SELECT * FROM {rows})"
_GOT = """got AS MATERIALIZED (
    SELECT l.flow_id, l.owner, l.claims, l.mail FROM penstock_live l, fence WHERE l.flow_id = ANY ({ids})
    ORDER BY l.flow_id FOR NO KEY UPDATE OF l SKIP LOCKED)"""
# `s` is the row as of the snapshot: one that is visible and was not obtained is locked; one that is not visible has
# ended, and a message to it is dropped.
_RATED = """rated AS MATERIALIZED (
    SELECT n.u, n.flow_id, CASE
        WHEN NOT n.is_owned THEN CASE WHEN g.flow_id IS NULL AND s.flow_id IS NOT NULL THEN 'locked' END
        WHEN s.flow_id IS NULL THEN 'gone'
        WHEN g.flow_id IS NULL THEN 'locked'
        WHEN g.owner IS DISTINCT FROM $1::int8 OR g.claims <> n.claims THEN 'foreign'
        WHEN g.mail <> n.seen THEN 'mail' END AS why
    FROM need n LEFT JOIN got g ON g.flow_id = n.flow_id LEFT JOIN penstock_live s ON s.flow_id = n.flow_id),
bad AS MATERIALIZED (SELECT DISTINCT u FROM rated WHERE why IS NOT NULL)"""
_CREATES = f"""c AS MATERIALIZED (SELECT x.* FROM {{rows}}, fence WHERE {{ok}}),
new_flows AS (INSERT INTO penstock_flows ({FLOW_COLUMNS}, updated_at) SELECT {FLOW_COLUMNS}, created_at FROM c),
new_live AS (INSERT INTO penstock_live ({LIVE_COLUMNS}) SELECT {LIVE_COLUMNS} FROM c)"""
_JOURNAL = f"""new_journal AS (INSERT INTO penstock_journal ({JOURNAL_COLUMNS})
    SELECT {JOURNAL_COLUMNS.replace("replica", "$1::int8")} FROM {{rows}}, fence WHERE {{ok}})"""
# The unread messages are those of the snapshot, so they say something only while `mail` is the snapshot's too.
_CALM_MAIL = """quiet AS MATERIALIZED (
    SELECT n.flow_id FROM need n JOIN got g USING (flow_id) JOIN penstock_live s USING (flow_id)
    WHERE n.is_answered AND n.messages = 0 AND g.mail = s.mail AND NOT EXISTS (
        SELECT FROM penstock_inbox i WHERE i.flow_id = n.flow_id AND i.answered_at IS NULL
        AND NOT EXISTS (SELECT FROM answers a WHERE a.flow_id = i.flow_id AND a.seq = i.seq)))"""
_UPDATES = """changed AS (UPDATE penstock_live l SET
    mail = l.mail + x.messages,
    mail_at = CASE WHEN x.messages > 0 AND NOT x.is_released THEN coalesce(l.mail_at, x.message_at)
        WHEN x.messages > 0 THEN x.message_at
        WHEN x.is_released {quiet} THEN NULL ELSE l.mail_at END,
    owner = CASE WHEN NOT x.is_released THEN l.owner END,
    crashes = CASE WHEN x.is_calmed THEN 0 ELSE l.crashes END,
    ready_at = CASE WHEN x.is_released THEN coalesce(x.ready_at, x.message_at)
        WHEN x.messages > 0 AND l.owner IS NULL THEN coalesce(l.ready_at, x.message_at) ELSE l.ready_at END,
    wake_at = CASE WHEN x.is_released THEN x.wake_at ELSE l.wake_at END
    FROM need x {join} WHERE l.flow_id = x.flow_id AND {ok} AND NOT x.is_deleted
    AND (x.messages > 0 OR x.is_released OR x.is_calmed {quiet})
    RETURNING l.flow_id, l.mail - x.messages AS base)"""
_DELETES = """ended AS (DELETE FROM penstock_live l USING need x
    WHERE l.flow_id = x.flow_id AND x.is_deleted AND {ok})"""
_MESSAGES = """posted AS (INSERT INTO penstock_inbox (flow_id, seq, kind, body, sender, created_at)
    SELECT x.flow_id, b.base + x.number, x.kind, x.body, x.sender, x.at FROM {rows} JOIN ({bases}) b USING (flow_id))"""
# A flow that is to be deleted on completion stays readable for a minute.
_STOPS = """stopped AS (UPDATE penstock_flows f SET status = x.status, output = x.output, error = x.error,
    cancel_reason = x.cancel_reason, position = x.position, stopped_at = x.at, updated_at = x.at, business_open = NULL,
    delete_at = CASE WHEN f.delete_on_completion AND x.status = 'completed' THEN x.at + 60000 ELSE f.delete_at END
    FROM {rows}, fence WHERE f.flow_id = x.flow_id AND {ok})"""
# What a stop has written goes when a finished flow lives again; of the others it changes nothing.
_STATUSES = """told AS (UPDATE penstock_flows f SET status = x.status, position = x.position, updated_at = x.at,
    output = NULL, error = NULL, cancel_reason = NULL, stopped_at = NULL, delete_at = NULL, business_open = f.business_key
    FROM {rows}, fence WHERE f.flow_id = x.flow_id AND {ok})"""
_ANSWERS = "answers AS MATERIALIZED (SELECT * FROM {rows})"
_VERDICTS = """answered AS (UPDATE penstock_inbox i SET answered_at = x.at, verdict = x.verdict
    FROM answers x, fence WHERE i.flow_id = x.flow_id AND i.seq = x.seq AND {ok})"""
_INTERRUPTS = f"""asked AS (INSERT INTO penstock_interrupts ({INTERRUPT_COLUMNS})
    SELECT {INTERRUPT_COLUMNS} FROM {{rows}}, fence WHERE {{ok}})"""
_INTERRUPT_DELETES = """closed AS (DELETE FROM penstock_interrupts i USING {rows}, fence
    WHERE i.interrupt_id = x.interrupt_id AND {ok})"""
_OUTBOX = f"""sent AS (INSERT INTO penstock_outbox ({OUTBOX_COLUMNS})
    SELECT {OUTBOX_COLUMNS} FROM {{rows}}, fence WHERE {{ok}})"""

_SIMPLE = {
    "journal": _JOURNAL,
    "stops": _STOPS,
    "statuses": _STATUSES,
    "interrupts": _INTERRUPTS,
    "interrupt_deletes": _INTERRUPT_DELETES,
    "outbox": _OUTBOX,
}


@cache
def batch_statement(kinds: int) -> str:
    """Compose the statement for a batch with these groups of rows; `$1` is the replica, the columns follow.

    It returns the count of the fence with, for each row of a unit that was left out, unit, flow and reason: `locked`,
    `gone`, `foreign`, `mail`, or NULL where that row was as it should be. What a batch does not have costs nothing,
    in planning neither.
    """
    rows, ids = _unnested(kinds)
    has_touched = "touched" in rows
    ok = "x.u <> ALL (ARRAY(SELECT u FROM bad))" if has_touched else "true"
    parts = [_FENCE]
    if has_touched:
        parts += [_NEED.format(rows=rows["touched"]), _GOT.format(ids=ids), _RATED]
    if "creates" in rows:
        parts.append(_CREATES.format(rows=rows["creates"], ok=ok))
    if "verdicts" in rows:
        parts += [_ANSWERS.format(rows=rows["verdicts"]), _VERDICTS.format(ok=ok)]
    parts += [text.format(rows=rows[name], ok=ok) for name, text in _SIMPLE.items() if name in rows]
    if kinds & UPDATES:
        parts += _updates(ok, has_verdicts="verdicts" in rows)
    if kinds & DELETES:
        parts.append(_DELETES.format(ok=ok))
    if "messages" in rows:
        bases = ["SELECT flow_id, base FROM changed"] if kinds & UPDATES else []
        bases += ["SELECT flow_id, 0 AS base FROM c"] if "creates" in rows else []
        if bases:
            parts.append(_MESSAGES.format(rows=rows["messages"], bases=" UNION ALL ".join(bases)))
    return f"WITH {', '.join(parts)} {_answer(has_touched=has_touched)}"


def _unnested(kinds: int) -> tuple[dict[str, str], str]:
    """The text that stands for each group's rows, and the parameter with the ids of the touched ones."""
    rows, ids, number = {}, "", 2
    for group in GROUPS:
        if not kinds & _BITS[group.name]:
            continue
        marks = [f"${number + at}::{kind}[]" for at, (_, kind) in enumerate(group.columns)]
        names = ", ".join(name for name, _ in group.columns)
        rows[group.name] = f"unnest({', '.join(marks)}) x({names})"
        if group.name == "touched":
            ids = marks[1]
        number += len(marks)
    return rows, ids


def _updates(ok: str, *, has_verdicts: bool) -> list[str]:
    if not has_verdicts:
        return [_UPDATES.format(ok=ok, join="", quiet="")]
    join = "LEFT JOIN quiet q USING (flow_id)"
    return [_CALM_MAIL, _UPDATES.format(ok=ok, join=join, quiet="OR q.flow_id IS NOT NULL")]


def _answer(*, has_touched: bool) -> str:
    count = "SELECT count(*) AS living FROM fence"
    if not has_touched:
        return count
    return (
        f"SELECT f.living, r.u, r.flow_id, r.why FROM ({count}) f "
        "LEFT JOIN (SELECT * FROM rated WHERE u IN (SELECT u FROM bad)) r ON true"
    )
