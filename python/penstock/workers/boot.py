"""What a fresh process needs to find the app as the host finds it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

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

    @classmethod
    def of_host(cls, spec: AppSpec, threads: int) -> Boot:
        """Describe the calling process."""
        return cls(spec, threads, list(sys.path), list(sys.argv), os.environ.get("PYTHONPATH"))

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
        }

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
