"""What a fresh process needs to find the app as the host finds it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penstock.clock import SharedClock, wall_clock_ms
from penstock.workers.process import limit_library_threads
from penstock.workers.spec import AppSpec


@dataclass(frozen=True, slots=True)
class Boot:
    """The app's address, and the import settings of the host."""

    spec: AppSpec
    threads: int
    sys_path: list[str]
    argv: list[str]
    python_path: str | None
    clock: str | None = None
    """The file of the clock that tasks go by; None for the machine's."""

    @classmethod
    def of_host(cls, spec: AppSpec, threads: int, clock: SharedClock | None = None) -> Boot:
        """Describe the calling process."""
        path = None if clock is None else str(clock.path)
        return cls(spec, threads, list(sys.path), list(sys.argv), os.environ.get("PYTHONPATH"), path)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Boot:
        """Read what `as_dict` gave."""
        return cls(**(values | {"spec": AppSpec.from_dict(values["spec"])}))

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "spec": self.spec.as_dict(),
            "threads": self.threads,
            "sys_path": self.sys_path,
            "argv": self.argv,
            "python_path": self.python_path,
            "clock": self.clock,
        }

    def now(self) -> Callable[[], int]:
        """Open the clock that tasks go by."""
        return wall_clock_ms if self.clock is None else SharedClock(self.clock)

    def apply(self) -> None:
        """Make this process look like the host to an import."""
        sys.path[:] = self.sys_path
        sys.argv[:] = self.argv
        if self.python_path is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = self.python_path
        limit_library_threads()


def bootstrap_environment() -> dict[str, str]:
    """The environment in which a fresh process finds this package, until it applies its `Boot`."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
