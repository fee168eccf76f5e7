"""An engine with two workers, on a file of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import Engine
from tests.faults.app import app
from tests.faults.runs import Run, StartHost
from tests.support.ledger import Ledger


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with Engine(app, database_url, workers=2) as engine:
        yield engine


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What the task `hold` waits for."""
    return tmp_path / "gate"


@pytest.fixture
def run(start_host: StartHost, database: Path, ledger: Ledger) -> Run:
    return Run(start_host, database, ledger)
