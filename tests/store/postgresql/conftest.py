"""Several replicas over one database, and named points at which one of them stands still."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from penstock.store import Store
from tests.support.databases import PostgresDatabase
from tests.support.waiting import eventually

DEADLINE_S = 20.0


class Aside:
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._answer: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._answer = call()
        except BaseException as error:  # noqa: BLE001  # handed over
            self._error = error

    def answer(self) -> Any:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the call does not come back"
        if self._error is not None:
            raise self._error
        return self._answer


@pytest.fixture
def replicas(open_another) -> list[Store]:
    """Two engines that have registered."""
    stores = [open_another(), open_another()]
    for store in stores:
        store.register()
    return stores


@pytest.fixture
def hold(database: PostgresDatabase) -> Callable[..., Any]:
    """Hold rows in an open transaction, as a paused client does."""

    @contextmanager
    def holder(statement: str) -> Iterator[Any]:
        with database.connect() as connection:
            connection.execute("BEGIN")
            connection.execute(statement.encode())
            yield connection
            if not connection.closed:
                connection.execute("ROLLBACK")

    return holder


@pytest.fixture
def until_blocked(database: PostgresDatabase) -> Callable[[str], int]:
    """Wait until a statement that holds this text waits for a lock, and return its process id."""

    def wait(text: str) -> int:
        query = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            f" AND strpos(query, '{text}') > 0 AND pid <> pg_backend_pid()"
        )
        return int(eventually(lambda: database.rows(query), what=f"{text!r} to wait for a lock")[0][0])

    return wait
