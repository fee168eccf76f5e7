"""Which flows to take, and what replay needs of them."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from penstock.store.batch import Fenced
from penstock.store.dialects.postgresql.connections import Driver, run
from penstock.store.dialects.postgresql.parameters import bytea_array, long_array, uuid_array
from penstock.store.journal import SNAPSHOT
from penstock.store.rows import Claimed, LoadRow, Look

_PROMOTE = """WITH due AS MATERIALIZED (
    SELECT flow_id FROM penstock_live WHERE owner IS NULL AND wake_at <= $1::int8
    ORDER BY wake_at LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)
UPDATE penstock_live l SET ready_at = coalesce(l.ready_at, l.wake_at), wake_at = NULL
    FROM due WHERE l.flow_id = due.flow_id"""
# `owner` stands in the order of the mail lane because it stands in the index. MATERIALIZED: a plain subquery with LIMIT may be evaluated again and take other rows.
_CLAIM = """WITH fence AS MATERIALIZED (
    SELECT replica_id FROM penstock_replicas WHERE replica_id = $1::int8 AND dead_at IS NULL FOR KEY SHARE),
mail AS MATERIALIZED (
    SELECT l.flow_id FROM penstock_live l, fence WHERE l.owner IS NULL AND l.mail_at IS NOT NULL
    AND l.format <= $5::int8 AND l.graph_id <> ALL ($4::bytea[])
    ORDER BY l.owner, l.mail_at LIMIT $2::int8 FOR NO KEY UPDATE OF l SKIP LOCKED),
ready AS MATERIALIZED (
    SELECT l.flow_id FROM penstock_live l, fence WHERE l.owner IS NULL AND l.ready_at IS NOT NULL
    AND l.format <= $5::int8 AND l.graph_id <> ALL ($4::bytea[]) AND l.flow_id <> ALL (ARRAY(SELECT flow_id FROM mail))
    ORDER BY l.priority, l.fairness_key, l.ready_at, l.flow_id LIMIT $3::int8 FOR NO KEY UPDATE OF l SKIP LOCKED),
picked AS MATERIALIZED (
    SELECT flow_id, row_number() OVER () AS place FROM (SELECT * FROM mail UNION ALL SELECT * FROM ready) both_lanes),
taken AS (
    UPDATE penstock_live l SET owner = $1::int8, claims = l.claims + 1 FROM picked
    WHERE l.flow_id = picked.flow_id RETURNING l.flow_id, l.claims, l.graph_id, picked.place)
SELECT f.living, t.flow_id, t.claims, t.graph_id FROM (SELECT count(*) AS living FROM fence) f
    LEFT JOIN taken t ON true ORDER BY t.place"""
IN_ORDER = (
    "BEGIN; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off; "
    "SET LOCAL jit = off"
)
"""Begins the transaction of a claim. A planner that expects few ready flows would rather read and sort all of them
than walk the index in its order: 180 ms instead of 3 beside 50 000. What is off only costs more, which would make the server compile. Local to the transaction, so a proxy may stand
between."""
_GIVE_BACK = """WITH mine AS MATERIALIZED (
    SELECT l.flow_id FROM penstock_live l JOIN unnest($2::uuid[], $3::int8[]) x(flow_id, claims)
    ON l.flow_id = x.flow_id AND l.claims = x.claims WHERE l.owner = $1::int8 ORDER BY l.flow_id FOR NO KEY UPDATE OF l)
UPDATE penstock_live l SET owner = NULL, ready_at = coalesce(l.ready_at, $4::int8) FROM mine
    WHERE l.flow_id = mine.flow_id"""
# Not min(wake_at), for which a planner that expects few sleepers reads them all: 31 ms beside 100 000.
_LOOK = """SELECT
    EXISTS (SELECT FROM penstock_live WHERE owner = $1::int8 AND mail_at IS NOT NULL),
    EXISTS (SELECT FROM penstock_live WHERE owner IS NULL AND mail_at IS NOT NULL),
    EXISTS (SELECT FROM penstock_live WHERE owner IS NULL AND ready_at IS NOT NULL),
    (SELECT wake_at FROM penstock_live WHERE owner IS NULL AND wake_at IS NOT NULL ORDER BY wake_at LIMIT 1)"""
_FLOWS = """SELECT f.flow_id, coalesce(l.claims, 0), coalesce(l.crashes, 0), coalesce(l.mail, 0), f.graph_id, f.workflow,
    f.root_id, f.parent_id, f.parent_step, f.status, f.priority, f.fairness_key, f.fairness_weight, f.time_budget_ms,
    f.input, f.baggage, f.trace_parent, f.created_at, f.thread_id, f.notify, f.delete_on_completion
    FROM penstock_flows f LEFT JOIN penstock_live l ON l.flow_id = f.flow_id WHERE f.flow_id = ANY ($1::uuid[])"""
# The last snapshot is looked for backwards, along the primary key.
_JOURNAL = f"""SELECT j.flow_id, j.ord, j.step, j.node, j.event, j.attempt, j.at, j.body
    FROM unnest($1::uuid[]) f(flow_id) CROSS JOIN LATERAL (
        SELECT coalesce((SELECT s.ord FROM penstock_journal s WHERE s.flow_id = f.flow_id AND s.event = '{SNAPSHOT}'
            AND NOT $2::bool ORDER BY s.ord DESC LIMIT 1), 1) AS first) b
    JOIN penstock_journal j ON j.flow_id = f.flow_id AND j.ord >= b.first ORDER BY j.flow_id, j.ord"""
_OWNED = "SELECT flow_id, claims FROM penstock_live WHERE owner = $1::int8"

_Events = list[tuple[int, int, str, str, int, int, str]]


def promote(driver: Driver, now: int) -> None:
    """Make up to 1 000 due flows ready; served by `live_wake`. Harmless by whom and how often it is done."""
    run(driver, _PROMOTE, [now])


def claim(
    driver: Driver, owner: int, mail: int, ready: int, exclude: Collection[bytes], max_format: int
) -> list[Claimed] | Fenced:
    """Claim flows: first those with unread mail, longest waiting first, then those with work, best band first.

    Served by `live_mail` and `live_ready`; rows that another replica is taking are passed over. The caller's
    transaction begins by `IN_ORDER`.
    """
    parameters = [owner, max(mail, 0), max(ready, 0), bytea_array(exclude), max_format]
    rows = run(driver, _CLAIM, parameters).fetchall()
    if not rows[0][0]:
        return Fenced(owner)
    return [
        Claimed(flow_id, claims, graph_id) for _, flow_id, claims, graph_id in rows if flow_id is not None
    ]


def give_back(driver: Driver, owner: int, claims: Sequence[Claimed], now: int) -> None:
    """Release flows just claimed, as they were."""
    keys = [uuid_array(claim.flow_id for claim in claims), long_array(claim.claims for claim in claims)]
    run(driver, _GIVE_BACK, [owner, *keys, now])


def look(driver: Driver, owner: int) -> Look:
    """Probe four indexes, one entry each."""
    return Look(*_one(driver, _LOOK, [owner]))


def owned(driver: Driver, owner: int) -> dict[bytes, int]:
    """Read what a replica owns; served by `live_owner`."""
    return dict(run(driver, _OWNED, [owner]).fetchall())


def load(driver: Driver, flow_ids: Sequence[bytes], *, complete: bool) -> list[LoadRow]:
    """Read flows and their journals; the caller's transaction reads one snapshot."""
    ids = uuid_array(flow_ids)
    events: defaultdict[bytes, _Events] = defaultdict(list)
    flows = {row[0]: row for row in run(driver, _FLOWS, [ids])}
    for flow_id, *event in run(driver, _JOURNAL, [ids, complete]):
        events[flow_id].append(tuple(event))
    return [
        LoadRow._make((*flows[flow_id], events[flow_id]))
        for flow_id in dict.fromkeys(flow_ids)
        if flow_id in flows
    ]


def _one(driver: Driver, statement: str, parameters: Sequence[Any]) -> tuple[Any, ...]:
    row = run(driver, statement, parameters).fetchone()
    assert row is not None
    return row
