"""How PostgreSQL looks into JSON text."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.sql.elements import ColumnElement


class PostgresJson:
    """See `lists.JsonQueries`."""

    def has_member(self, column: ColumnElement[Any], name: str, value: str) -> ColumnElement[bool]:
        """By `->>` of `json`, not `jsonb`, which refuses text that holds an escaped NUL anywhere."""
        return self.member(column, name) == value

    def member(self, column: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """By `->>`; text with an escaped NUL has no members, because looking at it would be an error."""
        readable = sa.case((sa.func.strpos(column, "\\u0000") == 0, column))
        found: ColumnElement[str] = sa.cast(readable, JSON)[name].astext
        return found

    def holds_text(self, column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
        """By `strpos`: LIKE would take signs of *text* for wildcards."""
        return sa.func.strpos(column, text) > 0
