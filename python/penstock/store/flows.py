"""Reading flows: one, many, a tree, a page."""

from collections.abc import Collection
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from penstock.store.rows import FlowFilter, OutcomeRow, PageOfFlows
from penstock.store.tables import flows

_CHUNK = 500
_COLUMNS = [flows.c[name] for name in OutcomeRow._fields]

Condition = ColumnElement[bool]


class JsonQueries(Protocol):
    """How a database looks into JSON text."""

    def has_member(self, column: ColumnElement[Any], name: str, value: str) -> Condition:
        """The object in *column* has this string under *name*."""

    def member(self, column: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """The string under *name* of the object in *column*; NULL when there is none."""

    def holds_text(self, column: ColumnElement[Any], text: str) -> Condition:
        """*text* occurs in *column*, letter for letter."""


def read_outcome(conn: Connection, flow_id: bytes) -> OutcomeRow | None:
    """Read one flow by its primary key."""
    row = conn.execute(sa.select(*_COLUMNS).where(flows.c.flow_id == flow_id)).first()
    return None if row is None else OutcomeRow(*row)


def read_outcomes(conn: Connection, flow_ids: Collection[bytes]) -> dict[bytes, OutcomeRow]:
    """Read many flows by primary key, some hundred at a time."""
    wanted, found = list(flow_ids), {}
    for start in range(0, len(wanted), _CHUNK):
        statement = sa.select(*_COLUMNS).where(flows.c.flow_id.in_(wanted[start : start + _CHUNK]))
        for row in conn.execute(statement):
            found[bytes(row[0])] = OutcomeRow(*row)
    return found


def read_latest_turn(conn: Connection, thread_id: bytes) -> OutcomeRow | None:
    """Read the last turn of a thread, by `flows_thread`. A fork has no turn."""
    turns = sa.select(*_COLUMNS).where(flows.c.thread_id == thread_id, flows.c.turn.is_not(None))
    row = conn.execute(turns.order_by(flows.c.turn.desc()).limit(1)).first()
    return None if row is None else OutcomeRow(*row)


def read_tree(conn: Connection, root_id: bytes) -> list[OutcomeRow]:
    """Read a root by its key and what is below it by `flows_root`, oldest first."""
    below = (flows.c.root_id == root_id) & flows.c.parent_id.is_not(None)
    statement = sa.select(*_COLUMNS).where((flows.c.flow_id == root_id) | below).order_by(flows.c.flow_id)
    return [OutcomeRow(*row) for row in conn.execute(statement)]


def list_flows(
    conn: Connection, which: FlowFilter, json: JsonQueries, limit: int, cursor: bytes | None
) -> PageOfFlows:
    """Read a page, newest first: ids begin with the time, so the primary key gives the order."""
    statement = sa.select(*_COLUMNS).order_by(flows.c.flow_id.desc()).limit(limit + 1)
    statement = statement.where(*_conditions(which, json))
    if cursor is not None:
        statement = statement.where(flows.c.flow_id < cursor)
    items = [OutcomeRow(*row) for row in conn.execute(statement)]
    return PageOfFlows(items[:limit], items[limit - 1].flow_id if len(items) > limit else None)


def _conditions(which: FlowFilter, json: JsonQueries) -> list[Condition]:
    conditions: list[Condition] = []
    for name in ("status", "workflow", "thread_id", "fairness_key", "priority"):
        value = getattr(which, name)
        if value is not None:
            conditions.append(flows.c[name] == value)
    if not which.children:
        conditions.append(flows.c.parent_id.is_(None))
    if which.older_than is not None:
        conditions.append(flows.c.created_at < which.older_than)
    if which.newer_than is not None:
        conditions.append(flows.c.created_at >= which.newer_than)
    if which.node is not None:
        conditions.append(json.holds_text(flows.c.position, f'"{which.node}"'))
    if which.error_code is not None:
        conditions.append(json.member(flows.c.error, "code") == which.error_code)
    if which.search is not None:
        searched = (flows.c.workflow, flows.c.business_key, flows.c.tags, flows.c.error)
        conditions.append(sa.or_(*(json.holds_text(column, which.search) for column in searched)))
    conditions.extend(json.has_member(flows.c.tags, name, value) for name, value in which.tags.items())
    return conditions
