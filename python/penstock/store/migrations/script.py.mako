"""${message}: expand.

Says what changes and what an operator has to know. Never edited once released.
"""

import sqlalchemy as sa
from alembic import op

from penstock.store.columns import Hash, Id, Instant, Key, LongText, Number

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Take back."""
    ${downgrades if downgrades else "pass"}
