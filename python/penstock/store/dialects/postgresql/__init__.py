"""PostgreSQL 13 and later: any number of engines, any number of processes."""

from penstock.store.dialects.postgresql.store import PostgresStore

__all__ = ["PostgresStore"]
