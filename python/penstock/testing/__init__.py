"""What tests of workflows need: an engine of their own, a clock to be moved, facts to wait for, assertions.

    with TestEngine(app) as engine:
        key = engine.create("order", {"sku": "b-7"})
        engine.advance(timedelta(days=30))
        engine.assert_ran(key, ["reserve", "remind"])

The pytest plugin, `penstock.testing.pytest_plugin`, gives the same as fixtures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.testing.clock import TestClock
    from penstock.testing.drawing import draw
    from penstock.testing.engine import TestEngine
    from penstock.testing.single import TaskRun, run_task
    from penstock.testing.waiting import wait_until

__all__ = ["TaskRun", "TestClock", "TestEngine", "draw", "run_task", "wait_until"]

# Loaded when they are first named: the pytest plugin is imported in every run of a host's tests.
_NAMES = {
    "TaskRun": "single",
    "TestClock": "clock",
    "TestEngine": "engine",
    "draw": "drawing",
    "run_task": "single",
    "wait_until": "waiting",
}


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module 'penstock.testing' has no attribute {name!r}")
    value = getattr(import_module(f"penstock.testing.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
