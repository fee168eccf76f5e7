"""A store over each kind of database, an engine registered in it, and a way to look at its rows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.store import Store, open_store
from tests.store.fakes import T0
from tests.support.databases import Database


class SettableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = T0

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


@pytest.fixture
def open_another(database: Database, clock: SettableClock) -> Iterator[Callable[..., Store]]:
    """Open one more store over the same database: another process's, as far as the database can tell."""
    opened = []

    def opener(now: Callable[[], int] | None = clock) -> Store:
        opened.append(open_store(database.url, now, now))
        return opened[-1]

    yield opener
    for store in opened:
        store.close()


@pytest.fixture
def store(open_another: Callable[..., Store]) -> Store:
    store = open_another()
    store.register()
    return store


@pytest.fixture
def rows(database: Database) -> Callable[..., list[tuple[Any, ...]]]:
    """Read the database as another process would."""
    return database.rows


@pytest.fixture
def execute(database: Database) -> Callable[[str], None]:
    """Change the database behind the store's back."""
    return database.execute
