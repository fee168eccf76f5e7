"""The pytest plugin: an engine, a clock and a database for each test, as fixtures whose names begin with `penstock_`.

    def test_a_reminder_goes_out_after_a_month(penstock_engine):
        key = penstock_engine.create("order", {"sku": "b-7"})
        penstock_engine.advance(timedelta(days=30))
        penstock_engine.assert_ran(key, ["reserve", "remind"])

The app is what `penstock_app` in the ini file names, or what a fixture of that name in a conftest gives. Nothing of
Penstock but this module is imported before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from penstock.app import App
    from penstock.testing import TestClock, TestEngine


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--penstock-url`, `--penstock-workers` and what the ini file can say."""
    group = parser.getgroup("penstock", "durable workflows")
    group.addoption(
        "--penstock-url",
        help="Database of the fixture penstock_engine, a SQLAlchemy URL; by default each engine has a SQLite file of its own.",
    )
    group.addoption(
        "--penstock-workers",
        type=int,
        help="Worker processes of the fixture penstock_engine; by default 0, which runs tasks on threads.",
    )
    parser.addini("penstock_app", "Address of the app under test, as 'module:attribute'.")
    parser.addini("penstock_url", "As --penstock-url.")
    parser.addini("penstock_workers", "As --penstock-workers.")


@pytest.fixture
def penstock_app(request: pytest.FixtureRequest) -> App | str:
    """The app under test; a suite that makes it in another way has a fixture of this name."""
    address = str(request.config.getini("penstock_app") or "")
    if not address:
        pytest.fail(
            "which app is under test? Set penstock_app = 'module:attribute' in the ini file, or write a fixture "
            "penstock_app that returns it",
            pytrace=False,
        )
    return address


@pytest.fixture
def penstock_url(request: pytest.FixtureRequest) -> str:
    """The database: what the command line or the ini file names, else a SQLite file that goes with its engine."""
    url = request.config.getoption("--penstock-url") or request.config.getini("penstock_url")
    return str(url or "sqlite://")


@pytest.fixture
def penstock_workers(request: pytest.FixtureRequest) -> int:
    """Worker processes: what the command line or the ini file says, else none."""
    asked = request.config.getoption("--penstock-workers")
    return int(asked if asked is not None else request.config.getini("penstock_workers") or 0)


@pytest.fixture
def penstock_clock() -> TestClock:
    """The clock of this test's engines; it goes on until the test moves it."""
    from penstock.testing import TestClock

    return TestClock()


@pytest.fixture
def penstock_new_engine(
    penstock_url: str, penstock_workers: int, penstock_clock: TestClock
) -> Iterator[Callable[..., TestEngine]]:
    """Start engines that are shut down with the test: `penstock_new_engine(app, **options_of_TestEngine)`."""
    from penstock.testing import TestEngine

    with ExitStack() as engines:

        def start(app: App | str, **options: Any) -> TestEngine:
            given = {"url": penstock_url, "workers": penstock_workers, "clock": penstock_clock, **options}
            return engines.enter_context(TestEngine(app, **given))

        yield start


@pytest.fixture
def penstock_engine(penstock_app: App | str, penstock_new_engine: Callable[..., TestEngine]) -> TestEngine:
    """A running engine on `penstock_app`."""
    return penstock_new_engine(penstock_app)
