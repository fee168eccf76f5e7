"""A store over a file, an engine registered in it, and a way to look at its rows."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.store import Store, open_store
from tests.store.fakes import T0


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
def store(path: Path, clock: SettableClock) -> Iterator[Store]:
    store = open_store(f"sqlite:///{path}?synchronous=OFF", clock)
    store.register()
    yield store
    store.close()


@pytest.fixture
def rows(path: Path) -> Callable[..., list[tuple[Any, ...]]]:
    """Read the file as another process would."""

    def read(query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(query, parameters).fetchall()
        finally:
            connection.close()

    return read


@pytest.fixture
def execute(path: Path) -> Callable[[str], None]:
    """Change the file behind the store's back."""

    def run(statement: str) -> None:
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()

    return run
