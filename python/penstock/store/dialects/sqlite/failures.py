"""Which of SQLite's exceptions may pass with time, and which come from what a row holds."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import StatementError

from penstock.store.failures import Outage, RefusedRow

_OF_THE_ROW = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
)


@contextmanager
def failures_named(database: str) -> Iterator[None]:
    """Raise `Outage` or `RefusedRow` in place of what SQLite and its driver raise."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        raise _named(error, database) from error
    except StatementError as error:
        raise _named(error.orig or error, database) from error


def _named(error: BaseException, database: str) -> Outage | RefusedRow:
    is_closed = "closed" in str(error)
    if isinstance(error, _OF_THE_ROW) and not is_closed:
        return RefusedRow(f"The database refuses a row: {error}.")
    return Outage(f"The SQLite database {database} cannot be used: {error}.")
