"""Column types, one per kind of value, each spelt as its database needs it.

Migrations import these names too: a type here is never edited, only added to.
"""

import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mssql, mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

_BINARY_COLLATION = "Latin1_General_100_BIN2"


class Id(TypeDecorator[bytes]):
    """A 16-byte identifier: `uuid` on PostgreSQL, BINARY(16) on MySQL and SQL Server, BLOB on SQLite.

    Never `uniqueidentifier` on SQL Server, which sorts by its last bytes.
    """

    impl = sa.LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type of *dialect*."""
        types: dict[str, TypeEngine[Any]] = {
            "postgresql": postgresql.UUID(as_uuid=True),
            "mysql": mysql.BINARY(16),
            "mariadb": mysql.BINARY(16),
            "mssql": mssql.BINARY(16),
        }
        return dialect.type_descriptor(types.get(dialect.name, sa.LargeBinary()))

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> object:
        """Hand the driver the form it takes."""
        if value is not None and dialect.name == "postgresql":
            return uuid.UUID(bytes=value)
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        """Give plain bytes, whatever the driver returned."""
        if isinstance(value, uuid.UUID):
            return value.bytes
        return None if value is None else bytes(value)


class Key(TypeDecorator[str]):
    """A key given by the user, compared byte for byte: VARBINARY(255) on MySQL, binary collation on SQL Server.

    MySQL's default collation takes 'order-1', 'ORDER-1 ' and 'Order-1' for one key.
    """

    impl = sa.String(255)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type of *dialect*."""
        chosen: TypeEngine[Any] = sa.String(255)
        if dialect.name in ("mysql", "mariadb"):
            chosen = mysql.VARBINARY(255)
        elif dialect.name == "mssql":
            chosen = mssql.NVARCHAR(255, collation=_BINARY_COLLATION)
        return dialect.type_descriptor(chosen)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> object:
        """Encode where the column holds bytes."""
        if value is not None and dialect.name in ("mysql", "mariadb"):
            return value.encode()
        return value

    def process_result_value(self, value: object, dialect: Dialect) -> str | None:
        """Decode where the column holds bytes."""
        if isinstance(value, bytes | bytearray):
            return value.decode()
        return None if value is None else str(value)


Hash = (
    sa.LargeBinary(32)
    .with_variant(mysql.BINARY(32), "mysql", "mariadb")
    .with_variant(mssql.BINARY(32), "mssql")
)
"""A SHA-256 digest."""

LongText = (
    sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb").with_variant(sa.UnicodeText(), "mssql")
)
"""Text of any length. JSON is stored so: its numbers and strings survive digit for digit, and nothing parses it on
the hot path."""

Instant = sa.BigInteger()
"""Milliseconds since 1970 UTC, by the database's clock."""

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A number drawn by the database and never reused (SQLite's AUTOINCREMENT asks for INTEGER)."""
