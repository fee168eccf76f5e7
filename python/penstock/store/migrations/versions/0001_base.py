"""Base: expand. Every table of a shard."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from penstock.store.columns import Hash, Id, Instant, Key, LongText, Number

revision = "0001_base"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables and indexes."""
    _create_flows()
    _create_live()
    _create_journal()
    _create_inbox()
    _create_interrupts()
    _create_outbox()
    _create_graphs()
    _create_replicas()
    _create_leases()
    _create_resources()
    _create_permits()


def downgrade() -> None:
    """Drop all tables, with everything in them."""
    for name in reversed(_TABLES):
        op.drop_table(f"penstock_{name}")


_TABLES = (
    "flows",
    "live",
    "journal",
    "inbox",
    "interrupts",
    "outbox",
    "graphs",
    "replicas",
    "leases",
    "resources",
    "permits",
)


def _index(
    name: str, table: str, columns: list[str], where: str | None = None, *, unique: bool = False
) -> None:
    """Create an index; MySQL, which knows no filtered ones, gets it whole."""
    filters: dict[str, Any] = {} if where is None else _filters(sa.text(where))
    op.create_index(f"penstock_{name}", f"penstock_{table}", columns, unique=unique, **filters)


def _filters(where: sa.TextClause) -> dict[str, Any]:
    return {"sqlite_where": where, "postgresql_where": where, "mssql_where": where}


def _create_flows() -> None:
    op.create_table(
        "penstock_flows",
        sa.Column("flow_id", Id(), nullable=False),
        sa.Column("root_id", Id(), nullable=False),
        sa.Column("parent_id", Id()),
        sa.Column("parent_step", sa.BigInteger()),
        sa.Column("forked_from", Id()),
        sa.Column("forked_step", sa.BigInteger()),
        sa.Column("workflow", Key(), nullable=False),
        sa.Column("graph_id", Hash, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("fairness_key", Key(), nullable=False),
        sa.Column("fairness_weight", sa.Float(precision=53), nullable=False),
        sa.Column("time_budget_ms", sa.BigInteger()),
        sa.Column("thread_id", Id()),
        sa.Column("turn", sa.Integer()),
        sa.Column("idempotency_key", Key()),
        sa.Column("idempotency_hash", Hash),
        sa.Column("business_key", Key()),
        sa.Column("business_open", Key()),
        sa.Column("tags", LongText),
        sa.Column("input", LongText, nullable=False),
        sa.Column("baggage", LongText),
        sa.Column("trace_parent", sa.String(length=255)),
        sa.Column("output", LongText),
        sa.Column("error", LongText),
        sa.Column("cancel_reason", LongText),
        sa.Column("notify", LongText),
        sa.Column("delete_on_completion", sa.Boolean(), nullable=False),
        sa.Column("position", LongText),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.Column("stopped_at", Instant),
        sa.Column("delete_at", Instant),
        sa.PrimaryKeyConstraint("flow_id"),
    )
    _index("flows_business", "flows", ["workflow", "business_open"], "business_open IS NOT NULL", unique=True)
    _index("flows_delete", "flows", ["delete_at"], "delete_at IS NOT NULL")
    _index("flows_idempotency", "flows", ["idempotency_key"], "idempotency_key IS NOT NULL", unique=True)
    _index("flows_root", "flows", ["root_id"], "parent_id IS NOT NULL")
    _index("flows_status", "flows", ["status", "updated_at"])
    _index("flows_thread", "flows", ["thread_id", "turn"], "thread_id IS NOT NULL", unique=True)
    _index("flows_workflow", "flows", ["workflow", "created_at"])


def _create_live() -> None:
    op.create_table(
        "penstock_live",
        sa.Column("flow_id", Id(), nullable=False),
        sa.Column("owner", sa.BigInteger()),
        sa.Column("claims", sa.BigInteger(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("fairness_key", Key(), nullable=False),
        sa.Column("fairness_weight", sa.Float(precision=53), nullable=False),
        sa.Column("ready_at", Instant),
        sa.Column("wake_at", Instant),
        sa.Column("mail", sa.BigInteger(), nullable=False),
        sa.Column("mail_at", Instant),
        sa.Column("graph_id", Hash, nullable=False),
        sa.Column("format", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("flow_id"),
        sqlite_with_rowid=False,
        postgresql_with={
            "fillfactor": 70,
            "autovacuum_vacuum_scale_factor": 0.05,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_cost_delay": 0,
        },
    )
    _index("live_mail", "live", ["owner", "mail_at"], "mail_at IS NOT NULL")
    _index("live_owner", "live", ["owner"], "owner IS NOT NULL")
    _index(
        "live_ready",
        "live",
        ["priority", "fairness_key", "ready_at", "flow_id"],
        "owner IS NULL AND ready_at IS NOT NULL",
    )
    _index("live_wake", "live", ["wake_at"], "owner IS NULL AND wake_at IS NOT NULL")


def _create_journal() -> None:
    op.create_table(
        "penstock_journal",
        sa.Column("flow_id", Id(), nullable=False),
        sa.Column("ord", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("node", Key(), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("replica", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.BigInteger()),
        sa.Column("queued_ms", sa.BigInteger()),
        sa.Column("ran_ms", sa.BigInteger()),
        sa.Column("at", Instant, nullable=False),
        sa.Column("body", LongText, nullable=False),
        sa.PrimaryKeyConstraint("flow_id", "ord"),
        sqlite_with_rowid=False,
    )


def _create_inbox() -> None:
    op.create_table(
        "penstock_inbox",
        sa.Column("flow_id", Id(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("body", LongText, nullable=False),
        sa.Column("sender", LongText),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("answered_at", Instant),
        sa.Column("verdict", LongText),
        sa.PrimaryKeyConstraint("flow_id", "seq"),
        sqlite_with_rowid=False,
    )
    _index("inbox_answered", "inbox", ["answered_at"], "answered_at IS NOT NULL")
    _index("inbox_unread", "inbox", ["flow_id", "seq"], "answered_at IS NULL")


def _create_interrupts() -> None:
    op.create_table(
        "penstock_interrupts",
        sa.Column("interrupt_id", Id(), nullable=False),
        sa.Column("flow_id", Id(), nullable=False),
        sa.Column("root_id", Id(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("node", Key(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("key", Key()),
        sa.Column("payload", LongText),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant),
        sa.PrimaryKeyConstraint("interrupt_id"),
    )
    _index("interrupts_flow", "interrupts", ["flow_id"])
    _index("interrupts_root", "interrupts", ["root_id"])


def _create_outbox() -> None:
    op.create_table(
        "penstock_outbox",
        sa.Column("seq", Number, autoincrement=True, nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("flow_id", Id(), nullable=False),
        sa.Column("ord", sa.BigInteger(), nullable=False),
        sa.Column("body", LongText, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )


def _create_graphs() -> None:
    op.create_table(
        "penstock_graphs",
        sa.Column("graph_id", Hash, nullable=False),
        sa.Column("workflow", Key(), nullable=False),
        sa.Column("definition", LongText, nullable=False),
        sa.Column("published_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("graph_id"),
    )
    _index("graphs_workflow", "graphs", ["workflow", "published_at"])


def _create_replicas() -> None:
    op.create_table(
        "penstock_replicas",
        sa.Column("replica_id", Number, autoincrement=True, nullable=False),
        sa.Column("name", Key()),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("boot_id", sa.String(length=64), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("process_start", sa.BigInteger(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("dead_at", Instant),
        sa.PrimaryKeyConstraint("replica_id"),
        sqlite_autoincrement=True,
    )


def _create_leases() -> None:
    op.create_table(
        "penstock_leases",
        sa.Column("replica_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lease_until", Instant, nullable=False),
        sa.PrimaryKeyConstraint("replica_id"),
    )


def _create_resources() -> None:
    op.create_table(
        "penstock_resources",
        sa.Column("resource", Key(), nullable=False),
        sa.Column("state", LongText, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("resource"),
    )


def _create_permits() -> None:
    op.create_table(
        "penstock_permits",
        sa.Column("resource", Key(), nullable=False),
        sa.Column("partition", Key(), nullable=False),
        sa.Column("replica_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("resource", "partition", "replica_id"),
    )
