"""The tables of one shard. No foreign keys: they lock the parent's row.

Each index carries the question it serves. A filter on an index is written for the databases that know filtered
indexes; on MySQL the same index is whole.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, SmallInteger, String, Table
from sqlalchemy.sql.elements import ColumnElement

from penstock.store.columns import Hash, Id, Instant, Key, LongText, Number

PREFIX = "penstock_"

metadata = sa.MetaData()


def _table(name: str, *columns: Any, **options: Any) -> Table:
    return Table(PREFIX + name, metadata, *columns, **options)


def _index(
    name: str,
    *columns: Column[Any],
    where: ColumnElement[bool] | None = None,
    where_mssql: ColumnElement[bool] | None = None,
    unique: bool = False,
) -> None:
    """Add an index; *where_mssql* where SQL Server cannot compare two columns in a filter."""
    filters: dict[str, Any] = (
        {} if where is None else dict.fromkeys(("sqlite_where", "postgresql_where", "mssql_where"), where)
    )
    if where_mssql is not None:
        filters["mssql_where"] = where_mssql
    Index(f"{PREFIX}{name}", *columns, unique=unique, **filters)


def _key(name: str, *, primary: bool = False, null: bool = False) -> Column[str]:
    return Column(name, Key(), primary_key=primary, nullable=null)


flows = _table(
    "flows",
    Column("flow_id", Id(), primary_key=True),
    Column("root_id", Id(), nullable=False),
    Column("parent_id", Id()),
    Column("parent_step", BigInteger),
    Column("forked_from", Id()),
    Column("forked_step", BigInteger),
    _key("workflow"),
    Column("graph_id", Hash, nullable=False),
    Column("status", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    _key("fairness_key"),
    Column("fairness_weight", Float(53), nullable=False),
    Column("time_budget_ms", BigInteger),
    Column("thread_id", Id()),
    Column("turn", Integer),
    _key("idempotency_key", null=True),
    Column("idempotency_hash", Hash),
    _key("business_key", null=True),
    _key("business_open", null=True),
    Column("tags", LongText),
    Column("input", LongText, nullable=False),
    Column("baggage", LongText),
    Column("trace_parent", String(255)),
    Column("output", LongText),
    Column("error", LongText),
    Column("cancel_reason", LongText),
    Column("notify", LongText),
    Column("delete_on_completion", Boolean, nullable=False),
    Column("position", LongText),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("stopped_at", Instant),
    Column("delete_at", Instant),
)
"""What people ask about: written at creation, when the status changes and when the flow ends.

`business_open` is `business_key` until the flow ends and NULL afterwards, because "unique while unfinished" has to
hold on MySQL too, which has no filtered index.
"""

_listed = flows.c.parent_id.is_(None) & flows.c.delete_at.is_(None)
# list(status=…), and everything that is listed: one range a status, each in the order of the list
_index("flows_listed", flows.c.status, flows.c.flow_id, where=_listed)
# list(workflow=…), with and without status=
_index("flows_by_workflow", flows.c.workflow, flows.c.status, flows.c.flow_id, where=_listed)
# list(fairness_key=…); flows without a key cost nothing
_index(
    "flows_by_fairness",
    flows.c.fairness_key,
    flows.c.status,
    flows.c.flow_id,
    where=_listed & (flows.c.fairness_key != sa.literal_column("''")),
)
# list(newer_than=…): flows that were created before, and written since. What ends within a minute is never in it.
_index(
    "flows_lasting",
    flows.c.updated_at,
    flows.c.flow_id,
    where=_listed & (flows.c.updated_at >= flows.c.created_at + sa.literal_column("60000")),
    where_mssql=_listed,
)
# the flows below a root: a root finds itself by its primary key
_index("flows_root", flows.c.root_id, where=flows.c.parent_id.is_not(None))
# retention
_index("flows_delete", flows.c.delete_at, where=flows.c.delete_at.is_not(None))
# the turns of a thread; one of n concurrent continuations wins
_index("flows_thread", flows.c.thread_id, flows.c.turn, where=flows.c.thread_id.is_not(None), unique=True)
# the same key gives the same flow
_index("flows_idempotency", flows.c.idempotency_key, where=flows.c.idempotency_key.is_not(None), unique=True)
# one unfinished flow per workflow and business key
_index(
    "flows_business",
    flows.c.workflow,
    flows.c.business_open,
    where=flows.c.business_open.is_not(None),
    unique=True,
)

LIVE_STORAGE = {
    "fillfactor": 70,
    "autovacuum_vacuum_scale_factor": 0.05,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_cost_delay": 0,
}
"""On PostgreSQL: room for new versions beside the old ones, and a vacuum that keeps up with rows that live briefly."""

live = _table(
    "live",
    Column("flow_id", Id(), primary_key=True),
    Column("owner", BigInteger),
    Column("claims", BigInteger, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    _key("fairness_key"),
    Column("fairness_weight", Float(53), nullable=False),
    Column("ready_at", Instant),
    Column("wake_at", Instant),
    Column("mail", BigInteger, nullable=False),
    Column("mail_at", Instant),
    Column("graph_id", Hash, nullable=False),
    Column("format", SmallInteger, nullable=False),
    sqlite_with_rowid=False,
    postgresql_with=LIVE_STORAGE,
)
"""One narrow row per flow that has not ended; its stop deletes it.

`mail` counts the messages ever sent. `mail_at` is set by a message and cleared when none is left unanswered or when
the flow is released, which asks that its owner has read them all.
"""

_unowned = live.c.owner.is_(None)
# claims, best band first
_index(
    "live_ready",
    live.c.priority,
    live.c.fairness_key,
    live.c.ready_at,
    live.c.flow_id,
    where=_unowned & live.c.ready_at.is_not(None),
)
# timers that are due
_index("live_wake", live.c.wake_at, where=_unowned & live.c.wake_at.is_not(None))
# mail of the flows that I own, and of those that nobody owns
_index("live_mail", live.c.owner, live.c.mail_at, where=live.c.mail_at.is_not(None))
# what a dead replica held
_index("live_owner", live.c.owner, where=live.c.owner.is_not(None))

journal = _table(
    "journal",
    Column("flow_id", Id(), primary_key=True),
    Column("ord", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, nullable=False),
    _key("node"),
    Column("event", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("replica", BigInteger, nullable=False),
    Column("worker", BigInteger),
    Column("queued_ms", BigInteger),
    Column("ran_ms", BigInteger),
    Column("at", Instant, nullable=False),
    Column("body", LongText, nullable=False),
    sqlite_with_rowid=False,
)
"""Append-only history; the primary key is its only index."""

inbox = _table(
    "inbox",
    Column("flow_id", Id(), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("body", LongText, nullable=False),
    Column("sender", LongText),
    Column("created_at", Instant, nullable=False),
    Column("answered_at", Instant),
    Column("verdict", LongText),
    sqlite_with_rowid=False,
)
"""Messages to a flow; `seq` is the value `mail` of its live row took. Unread means: not answered yet."""

# the unread messages of a flow, beside any number of answered ones
_index("inbox_unread", inbox.c.flow_id, inbox.c.seq, where=inbox.c.answered_at.is_(None))
# the sweep of answered rows
_index("inbox_answered", inbox.c.answered_at, where=inbox.c.answered_at.is_not(None))

interrupts = _table(
    "interrupts",
    Column("interrupt_id", Id(), primary_key=True),
    Column("flow_id", Id(), nullable=False),
    Column("root_id", Id(), nullable=False),
    Column("step", BigInteger, nullable=False),
    _key("node"),
    Column("kind", String(16), nullable=False),
    _key("key", null=True),
    Column("payload", LongText),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
)
"""Open questions to the outside, over all flows: inserted with `parked`, deleted with `resolved`."""

# the open questions of a tree, the oldest first
_index("interrupts_root", interrupts.c.root_id, interrupts.c.interrupt_id)
# what goes with a flow that is deleted
_index("interrupts_flow", interrupts.c.flow_id)

outbox = _table(
    "outbox",
    Column("seq", Number, primary_key=True, autoincrement=True),
    Column("topic", String(64), nullable=False),
    Column("flow_id", Id(), nullable=False),
    Column("ord", BigInteger, nullable=False),
    Column("body", LongText, nullable=False),
    Column("holder", BigInteger),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", Instant, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)
"""What somebody subscribed to, delivered at least once: the row goes when it has been delivered.

`holder` is the replica that delivers it now; another one may take it when that one is dead.
"""

# what is due to be delivered
_index("outbox_due", outbox.c.topic, outbox.c.due_at)
# what goes with a flow that is deleted
_index("outbox_flow", outbox.c.flow_id)

graphs = _table(
    "graphs",
    Column("graph_id", Hash, primary_key=True),
    _key("workflow"),
    Column("definition", LongText, nullable=False),
    Column("published_at", Instant, nullable=False),
)
"""Definitions, stored once under the SHA-256 of their canonical text."""

# the newest definition of a workflow
_index("graphs_workflow", graphs.c.workflow, graphs.c.published_at)

replicas = _table(
    "replicas",
    Column("replica_id", Number, primary_key=True, autoincrement=True),
    _key("name", null=True),
    Column("host", String(255), nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("process_start", BigInteger, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("dead_at", Instant),
    sqlite_autoincrement=True,
)
"""Engines. An id is minted at every registration and never reused; a dead row is deleted when no flow names it."""

leases = _table(
    "leases",
    Column("replica_id", BigInteger, primary_key=True, autoincrement=False),
    Column("lease_until", Instant, nullable=False),
)
"""When others may declare a replica dead. A table of its own, so that the heartbeat never meets the fence's lock."""

resources = _table(
    "resources",
    _key("resource", primary=True),
    Column("state", LongText, nullable=False),
    Column("updated_at", Instant, nullable=False),
)
"""What replicas tell each other about a downstream."""

permits = _table(
    "permits",
    _key("resource", primary=True),
    _key("partition", primary=True),
    Column("replica_id", BigInteger, primary_key=True, autoincrement=False),
    Column("n", BigInteger, nullable=False),
)
"""What of a limit is lent to which replica."""
