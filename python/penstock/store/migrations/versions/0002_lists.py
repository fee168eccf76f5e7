"""Expand: indexes in the order of `list` and of answers, and an outbox that is delivered from."""

import sqlalchemy as sa
from alembic import op

from penstock.store.columns import Id, Instant, LongText, Number

revision = "0002_lists"
down_revision = "0001_base"
branch_labels = None
depends_on = None

_LISTED = "parent_id IS NULL AND delete_at IS NULL"
_KEYED = f"{_LISTED} AND fairness_key != ''"
_LASTING = f"{_LISTED} AND updated_at >= created_at + 60000"
_INDEXES: tuple[tuple[str, list[str], str, str], ...] = (
    ("flows_listed", ["status", "flow_id"], _LISTED, _LISTED),
    ("flows_by_workflow", ["workflow", "status", "flow_id"], _LISTED, _LISTED),
    ("flows_by_fairness", ["fairness_key", "status", "flow_id"], _KEYED, _KEYED),
    ("flows_lasting", ["updated_at", "flow_id"], _LASTING, _LISTED),
)


def upgrade() -> None:
    """Replace three indexes by five, and the outbox, to which no version has written."""
    op.drop_index("penstock_flows_status", "penstock_flows")
    op.drop_index("penstock_flows_workflow", "penstock_flows")
    for name, columns, where, where_mssql in _INDEXES:
        op.create_index(
            f"penstock_{name}",
            "penstock_flows",
            columns,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
            mssql_where=sa.text(where_mssql),
        )
    _replace_interrupts_root("root_id", "interrupt_id")
    op.drop_table("penstock_outbox")
    _create_outbox(
        sa.Column("holder", sa.BigInteger()),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", Instant, server_default="0", nullable=False),
    )
    op.create_index("penstock_outbox_due", "penstock_outbox", ["topic", "due_at"])
    op.create_index("penstock_outbox_flow", "penstock_outbox", ["flow_id"])


def downgrade() -> None:
    """Put the old indexes back; what was not delivered is lost."""
    op.drop_table("penstock_outbox")
    _create_outbox()
    _replace_interrupts_root("root_id")
    for name, *_ in _INDEXES:
        op.drop_index(f"penstock_{name}", "penstock_flows")
    op.create_index("penstock_flows_status", "penstock_flows", ["status", "updated_at"])
    op.create_index("penstock_flows_workflow", "penstock_flows", ["workflow", "created_at"])


def _replace_interrupts_root(*columns: str) -> None:
    op.drop_index("penstock_interrupts_root", "penstock_interrupts")
    op.create_index("penstock_interrupts_root", "penstock_interrupts", list(columns))


def _create_outbox(*more: sa.Column[object]) -> None:
    op.create_table(
        "penstock_outbox",
        sa.Column("seq", Number, autoincrement=True, nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("flow_id", Id(), nullable=False),
        sa.Column("ord", sa.BigInteger(), nullable=False),
        sa.Column("body", LongText, nullable=False),
        *more,
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
