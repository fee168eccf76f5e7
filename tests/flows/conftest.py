"""An engine for each module, on its `app`: once with tasks on threads, once with worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import Engine


@pytest.fixture(scope="module", params=[0, 2], ids=["threads", "workers"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Shared by the tests of a module; a test that stops it, or counts rows, makes one of its own."""
    database = tmp_path_factory.mktemp("flows") / "flows.db"
    with Engine(request.module.app, f"sqlite:///{database}", workers=request.param) as engine:
        yield engine


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file behind `database_url`."""
    return tmp_path / "flows.db"
