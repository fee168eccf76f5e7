"""An engine for each module, on its `app`: with tasks on threads, with worker processes, and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import Client, Engine
from penstock.testing import TestEngine
from tests.support.databases import Databases

KINDS = [("sqlite", 0), ("sqlite", 2), ("postgresql", 0)]


@pytest.fixture(scope="module", params=KINDS, ids=["threads", "workers", "postgresql"])
def engine(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestEngine]:
    """Shared by the tests of a module; a test that stops it, or counts rows, makes one of its own."""
    kind, workers = request.param
    if kind == "sqlite":
        # A file with a name, which clients can open too.
        url = f"sqlite:///{tmp_path_factory.mktemp('flows') / 'flows.db'}"
    else:
        url = databases.new_postgresql().url
    with TestEngine(request.module.app, url, workers=workers) as engine:
        yield engine


@pytest.fixture(params=["sqlite", "postgresql"])
def distant(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Iterator[Client]:
    """A client without an app, beside an engine on the module's `app`."""
    kind = request.param
    url = f"sqlite:///{tmp_path / 'distant.db'}" if kind == "sqlite" else databases.new_postgresql().url
    with Engine(request.module.app, url), Client(None, url) as client:
        yield client


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file behind `database_url`."""
    return tmp_path / "flows.db"
