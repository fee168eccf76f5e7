"""How SQLite looks into JSON text."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.elements import ColumnElement


class SqliteJson:
    """See `lists.JsonQueries`. Text that SQLite cannot parse (deeper than its limit) has no members."""

    def has_member(self, column: ColumnElement[Any], name: str, value: str) -> ColumnElement[bool]:
        """By `json_each`, whose keys need no quoting."""
        members = sa.func.json_each(_parsable(column)).table_valued("key", "value")
        return sa.exists(
            sa.select(sa.literal(1))
            .select_from(members)
            .where(members.c.key == name, members.c.value == value)
        )

    def member(self, column: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """By `json_extract`."""
        return sa.func.json_extract(_parsable(column), f"$.{name}")

    def holds_text(self, column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
        """By `instr`: LIKE would not see the difference between a and A."""
        return sa.func.instr(column, text) > 0


def _parsable(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return sa.case((sa.func.json_valid(column) == 1, column))
