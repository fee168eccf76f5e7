"""Which of PostgreSQL's exceptions may pass with time, and which come from what a row holds."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import StatementError

from penstock.store.failures import Outage, RefusedRow

_OF_THE_ROW = ("22", "23", "54")
"""Classes of SQLSTATE: data exception, constraint violation, program limit exceeded."""

_STALE_SESSION = ("25006", "26000", "42P05", "0A000")
"""The session is of no more use: read-only after a failover, or its prepared statements are not what they were."""


@contextmanager
def failures_named(database: str) -> Iterator[None]:
    """Raise `Outage` or `RefusedRow` in place of what PostgreSQL and its driver raise."""
    try:
        yield
    except (psycopg.Error, OverflowError, UnicodeError) as error:
        raise named(error, database) from error
    except StatementError as error:
        raise named(error.orig or error, database) from error


def named(error: BaseException, database: str) -> Outage | RefusedRow:
    """The error of the store that *error* is."""
    text = " ".join(str(error).split())
    if is_of_the_row(error):
        return RefusedRow(f"The database refuses a row: {text}.")
    return Outage(f"The PostgreSQL database {database} cannot be used: {text}.")


def is_of_the_row(error: BaseException) -> bool:
    """Whether the same statement would be refused again for what it holds."""
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return str(state)[:2] in _OF_THE_ROW
    return isinstance(error, psycopg.DataError | OverflowError | UnicodeError)


def is_stale(error: BaseException) -> bool:
    """Whether the connection that raised *error* should be replaced."""
    return getattr(error, "sqlstate", None) in _STALE_SESSION


def is_sudden_loss(error: BaseException) -> bool:
    """Whether the connection was lost without a word from the server, as it is when a statement kills a backend."""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None
