"""SQLite: one file, one engine, write-ahead log."""

from penstock.store.dialects.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
