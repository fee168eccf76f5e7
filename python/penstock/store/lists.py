"""Which flows a filter means, and pages of them.

Ids begin with the instant of their making, so the order of ids is the order of a list, and no new flow moves an old
one. Each index for lists holds the status before the id: a page is the merge of one range a status. Only ids are
merged; the rows of a page are read by their keys.
"""

import json as json_text
from collections.abc import Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from penstock.outcome import STATUSES
from penstock.store.rows import FlowFilter, OutcomeRow, PageOfFlows
from penstock.store.tables import flows

Condition = ColumnElement[bool]

_LASTING_MS = 60_000
"""From this age on a flow that is written to stands in `flows_lasting`."""

_FEW = 10_000
"""So many that lasted are sorted for a page; where there are more, a walk in the order of the list soon meets them."""

# What an error or an output holds is not shown in a list, and may be long.
_COLUMNS = [sa.null().label(name) if name == "output" else flows.c[name] for name in OutcomeRow._fields]
_SEARCHED = ("workflow", "business_key", "tags", "error", "cancel_reason")


_ID_BYTES = 16
_LISTED = (flows.c.parent_id.is_(None), flows.c.delete_at.is_(None))
_HAS_LASTED = flows.c.updated_at >= flows.c.created_at + sa.literal_column("60000")


class JsonQueries(Protocol):
    """How a database looks into JSON text."""

    def has_member(self, column: ColumnElement[Any], name: str, value: str) -> Condition:
        """The object in *column* has this string under *name*."""

    def member(self, column: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """The string under *name* of the object in *column*; NULL when there is none."""

    def holds_text(self, column: ColumnElement[Any], text: str) -> Condition:
        """*text* occurs in *column*, letter for letter."""


def list_flows(
    conn: Connection, which: FlowFilter, json: JsonQueries, limit: int, cursor: bytes | None
) -> PageOfFlows:
    """Read a page, newest first; the cursor is what the page before gave."""
    if which.thread_id is not None:
        places = _turns(conn, which, json, limit + 1, cursor)
    else:
        places = [(flow_id, flow_id) for flow_id in _newest(conn, which, json, limit + 1, cursor)]
    page = places[:limit]
    found = {row[0]: OutcomeRow(*row) for row in conn.execute(_rows([flow_id for flow_id, _ in page]))}
    items = [found[flow_id] for flow_id, _ in page]
    return PageOfFlows(items, page[-1][1] if len(places) > limit else None, needs_scan(which))


def needs_scan(which: FlowFilter) -> bool:
    """Whether rows have to be looked at one by one, as no index answers all that is asked."""
    if which.thread_id is not None:
        return False
    bare = (which.node, which.priority, which.error_code, which.search, which.search_id)
    ranged = (which.workflow, which.fairness_key or None)
    has_bare = any(value is not None for value in bare) or bool(which.tags) or which.fairness_key == ""
    asks = has_bare or which.status is not None or any(value is not None for value in ranged)
    return has_bare or None not in ranged or (which.children and (asks or which.newer_than is not None))


def oldest(
    conn: Connection,
    which: FlowFilter,
    json: JsonQueries,
    statuses: Sequence[str],
    limit: int,
    after: bytes | None,
) -> tuple[list[bytes], bytes | None]:
    """Read ids of roots, oldest first, and the cursor of the next page; of `newer_than`, what lasted comes first.

    What lasted comes in the order of its last change, which is that of its index.
    """
    wanted = [status for status in statuses if which.status in (None, status)]
    conditions = _conditions(which, json)
    if which.thread_id is not None:
        # A thread is short, and its index gives it whole.
        bounds = [] if after is None else [flows.c.flow_id > after]
        is_turn = [flows.c.thread_id == which.thread_id, flows.c.status.in_(wanted)]
        turns = sa.select(flows.c.flow_id).where(*is_turn, *bounds, *conditions, *_age(which))
        found = sorted(row[0] for row in conn.execute(turns))[:limit]
        return found, _last(found, limit)
    conditions += _age(FlowFilter(older_than=which.older_than))
    found = []
    if which.newer_than is not None and (after is None or len(after) > _ID_BYTES):
        changed = _by_change(conn, conditions, wanted, which.newer_than, limit, after)
        found = [flow_id for _, flow_id in changed]
        if len(changed) == limit:
            at_ms, flow_id = changed[-1]
            return found, at_ms.to_bytes(8, "big") + flow_id
        after = None
    parts: list[list[Condition]] = [[]] if which.newer_than is None else _since(which.newer_than)[::-1]
    bounds = [] if after is None else [flows.c.flow_id > after]
    for part in parts:
        if len(found) < limit:
            every = [*conditions, *bounds, *part]
            found += _merged(conn, every, wanted, limit - len(found), is_ascending=True)
    return found, _last(found, limit)


def _last(found: list[bytes], limit: int) -> bytes | None:
    return found[-1] if len(found) == limit else None


def first_id_at(at_ms: int) -> bytes:
    """The least id that could be made at an instant."""
    return min(max(at_ms, 0), 2**48 - 1).to_bytes(6, "big") + bytes(10)


def _newest(
    conn: Connection, which: FlowFilter, json: JsonQueries, limit: int, cursor: bytes | None
) -> list[bytes]:
    conditions = [*_conditions(which, json), *_age(FlowFilter(older_than=which.older_than))]
    bounds = [] if cursor is None else [flows.c.flow_id < cursor]
    statuses = STATUSES if which.status is None else (which.status,)
    since = which.newer_than
    if since is None:
        return _ranged(conn, which, [*conditions, *bounds], statuses, limit)
    found: list[bytes] = []
    for part in _since(since):
        if len(found) < limit:
            found += _ranged(conn, which, [*conditions, *bounds, *part], statuses, limit - len(found))
    if len(found) >= limit:
        return found
    if not which.children:
        return found + _lasting(conn, conditions, statuses, since, limit - len(found), cursor)
    before = [flows.c.flow_id < first_id_at(since - _LASTING_MS), flows.c.updated_at >= since]
    return found + _ranged(conn, which, [*conditions, *bounds, *before], statuses, limit - len(found))


def _since(at_ms: int) -> list[list[Condition]]:
    """Ranges of ids, newest first, of what was written since an instant, but for what `_lasting` finds.

    What was created since was written since; of what is a little older, rows are looked at.
    """
    first, young = first_id_at(at_ms), first_id_at(at_ms - _LASTING_MS)
    return [
        [flows.c.flow_id >= first],
        [flows.c.flow_id < first, flows.c.flow_id >= young, flows.c.updated_at >= at_ms],
    ]


def _lasting(
    conn: Connection,
    conditions: list[Condition],
    statuses: Sequence[str],
    since: int,
    limit: int,
    cursor: bytes | None,
) -> list[bytes]:
    """Read ids of what was created long before an instant and written since, newest first.

    A few are found by `flows_lasting` and sorted: the id is wrapped, lest a database walks another index in its order
    and looks at every row of that.
    """
    young = first_id_at(since - _LASTING_MS)
    bound = young if cursor is None else min(cursor, young)
    is_lasting = [flows.c.updated_at >= since, _HAS_LASTED]
    some = sa.select(sa.literal_column("1")).where(*is_lasting, *_LISTED).limit(_FEW + 1).subquery()
    if (conn.scalar(sa.select(sa.func.count()).select_from(some)) or 0) > _FEW:
        walked = [*conditions, flows.c.flow_id < bound, flows.c.updated_at >= since]
        return _merged(conn, walked, statuses, limit)
    flow_id = sa.func.coalesce(flows.c.flow_id, flows.c.flow_id)
    chosen = [*is_lasting, _none_but(statuses), flow_id < bound]
    statement = sa.select(flows.c.flow_id).where(*chosen, *conditions)
    return [row[0] for row in conn.execute(statement.order_by(flow_id.desc()).limit(limit))]


def _by_change(
    conn: Connection,
    conditions: list[Condition],
    statuses: Sequence[str],
    since: int,
    limit: int,
    after: bytes | None,
) -> list[tuple[int, bytes]]:
    """Read what lasted and was written since an instant, as `flows_lasting` has it, with the instants."""
    statement = sa.select(flows.c.updated_at, flows.c.flow_id).where(
        flows.c.updated_at >= since, _HAS_LASTED, _none_but(statuses), *conditions
    )
    if after is not None:
        at_ms, last = int.from_bytes(after[:8], "big"), after[8:]
        statement = statement.where(
            flows.c.updated_at >= at_ms, sa.or_(flows.c.updated_at > at_ms, flows.c.flow_id > last)
        )
    found = conn.execute(statement.order_by(flows.c.updated_at, flows.c.flow_id).limit(limit))
    return [(at_ms, flow_id) for at_ms, flow_id in found]


def _none_but(statuses: Sequence[str]) -> Condition:
    """A bound of the status that no index serves, of which a database knows all the same how much it leaves."""
    return flows.c.status.not_in([status for status in STATUSES if status not in statuses])


def _ranged(
    conn: Connection, which: FlowFilter, conditions: list[Condition], statuses: Sequence[str], limit: int
) -> list[bytes]:
    if not which.children:
        return _merged(conn, conditions, statuses, limit)
    if which.status is not None:
        conditions = [*conditions, flows.c.status == which.status]
    statement = sa.select(flows.c.flow_id).where(*conditions).order_by(flows.c.flow_id.desc()).limit(limit)
    return [row[0] for row in conn.execute(statement)]


def _merged(
    conn: Connection,
    conditions: list[Condition],
    statuses: Sequence[str],
    limit: int,
    *,
    is_ascending: bool = False,
) -> list[bytes]:
    """Merge one range of ids a status."""
    parts = []
    for status in statuses:
        part = sa.select(flows.c.flow_id).where(flows.c.status == status, *conditions)
        part = part.order_by(flows.c.flow_id if is_ascending else flows.c.flow_id.desc()).limit(limit)
        parts.append(sa.select(part.subquery()))
    if not parts:
        return []
    every = sa.union_all(*parts).subquery()
    order = every.c.flow_id if is_ascending else every.c.flow_id.desc()
    return [row[0] for row in conn.execute(sa.select(every.c.flow_id).order_by(order).limit(limit))]


def _turns(
    conn: Connection, which: FlowFilter, json: JsonQueries, limit: int, cursor: bytes | None
) -> list[tuple[bytes, bytes]]:
    """Read the turns of a thread, the last first, each with its cursor."""
    conditions = [flows.c.thread_id == which.thread_id, *_conditions(which, json)]
    if which.status is not None:
        conditions.append(flows.c.status == which.status)
    if which.older_than is not None:
        conditions.append(flows.c.updated_at < which.older_than)
    if which.newer_than is not None:
        conditions.append(flows.c.updated_at >= which.newer_than)
    if cursor is not None:
        conditions.append(flows.c.turn < int.from_bytes(cursor[:16], "big"))
    statement = sa.select(flows.c.flow_id, flows.c.turn).where(*conditions)
    rows = conn.execute(statement.order_by(flows.c.turn.desc()).limit(limit))
    return [(flow_id, int(turn).to_bytes(16, "big")) for flow_id, turn in rows]


def _rows(flow_ids: Sequence[bytes]) -> sa.Select[Any]:
    return sa.select(*_COLUMNS).where(flows.c.flow_id.in_(flow_ids))


def _age(which: FlowFilter) -> list[Condition]:
    """Bounds of the last change. What was last written before an instant was created before it: a bound of the id."""
    conditions: list[Condition] = []
    if which.older_than is not None:
        conditions += [flows.c.updated_at < which.older_than, flows.c.flow_id < first_id_at(which.older_than)]
    if which.newer_than is not None:
        conditions.append(flows.c.updated_at >= which.newer_than)
    return conditions


def _conditions(which: FlowFilter, json: JsonQueries) -> list[Condition]:
    """All that is asked but status, thread and age."""
    conditions: list[Condition] = [flows.c.delete_at.is_(None)]
    for name in ("workflow", "priority"):
        value = getattr(which, name)
        if value is not None:
            conditions.append(flows.c[name] == value)
    if which.fairness_key is not None:
        conditions.append(flows.c.fairness_key == which.fairness_key)
        if which.fairness_key:
            # The words of the index's filter, or SQLite does not see that it serves.
            conditions.append(flows.c.fairness_key != sa.literal_column("''"))
    if not which.children:
        conditions.append(flows.c.parent_id.is_(None))
    if which.node is not None:
        name = json_text.dumps(which.node, ensure_ascii=False)
        conditions.append(json.holds_text(flows.c.position, name))
    if which.error_code is not None:
        conditions.append(json.member(flows.c.error, "code") == which.error_code)
    if which.search is not None:
        conditions.append(_found(which.search, which.search_id))
    conditions.extend(json.has_member(flows.c.tags, name, value) for name, value in which.tags.items())
    return conditions


def _found(text: str, flow_id: bytes | None) -> Condition:
    """The text occurs somewhere, whatever the case of its letters; JSON holds some signs escaped."""
    texts = dict.fromkeys(
        (text, json_text.dumps(text)[1:-1], json_text.dumps(text, ensure_ascii=False)[1:-1])
    )
    found = [flows.c[name].icontains(part, autoescape=True) for name in _SEARCHED for part in texts]
    if flow_id is not None:
        found.append(flows.c.flow_id == flow_id)
    return sa.or_(*found)
