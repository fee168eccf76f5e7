"""Fixtures that every suite may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.host import Host, run_host
from tests.support.ledger import Ledger

pytest_plugins = ["tests.support.databases"]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A SQLite file of the test's own."""
    return f"sqlite:///{tmp_path / 'flows.db'}"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger that the tasks of the test can write to."""
    return Ledger(tmp_path / "ledger.jsonl")


@pytest.fixture
def start_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Start hosts that end with the test: `start_host(["-m", "some.module"])`."""
    with ExitStack() as hosts:
        number = 0

        def start(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Host:
            nonlocal number
            number += 1
            return hosts.enter_context(run_host(arguments, tmp_path / f"host-{number}", environment))

        yield start
