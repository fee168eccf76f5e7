"""An engine with two workers, on a file of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import Engine
from tests.faults.app import app


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with Engine(app, database_url, workers=2) as engine:
        yield engine
