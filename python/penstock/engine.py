"""The engine: an embedded host of durable flows.

Everything an engine does is in `runtime` (its machinery) and `operations` (its use cases); here is its life.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self, Unpack

from penstock.app import App
from penstock.errors import EngineUnavailable
from penstock.operations.configure import Changes, apply, change
from penstock.operations.context import Context
from penstock.operations.facade import Operations
from penstock.operations.processes import processes
from penstock.operations.start import EngineOptions, Settings, begin
from penstock.operations.wait import seconds
from penstock.runtime.replica import switch_interval
from penstock.workers.main_import import stop_if_importing

if TYPE_CHECKING:
    from penstock.options import Duration
    from penstock.outcome import ProcessInfo
    from penstock.runtime.replica import Replica

_DRAIN_S = 30.0


class Engine(Operations):
    """Runs the flows of an app on a database. Blocking, and safe to use from any thread.

    Use it as a context manager, or call `start` and `shutdown`.

    Args:
        app: An `App`, or its address as `"module:attribute"`.
        url: A SQLAlchemy URL: `sqlite:///flows.db`; `sqlite://` is a database that goes with the engine.
        **options: See `EngineOptions`.

    Raises:
        Invalid: An argument is out of range, or the app cannot be found by workers.
    """

    def __init__(self, app: App | str | None, url: str, **options: Unpack[EngineOptions]) -> None:
        stop_if_importing(app)
        self._settings = Settings.read(app, url, options)
        self._lifecycle = threading.Lock()
        # Guarded by _lifecycle for writing; operations read them once.
        self._replica: Replica | None = None
        self._context: Context | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        state = "running" if self._context is not None else "stopped"
        return f"<Engine on {self._settings.shown_url}: {state}>"

    def start(self) -> None:
        """Open the database, start the workers, take over what was left, and run. Nothing to do when it runs.

        Raises:
            EngineUnavailable: The database cannot be reached or is held by another engine, or the workers do not
                come up.
            Invalid: A graph of the app does not compile, or needs a task that the workers do not have.
        """
        stop_if_importing(self._settings.app, starting=True)
        with self._lifecycle:
            if self._replica is None:
                self._replica, self._context = begin(self._settings)
                switch_interval.enter()

    def shutdown(self, timeout: Duration | None = None) -> None:
        """Let running tasks finish, release the flows, and stop. Flows go on when an engine is started again.

        Args:
            timeout: How long tasks may take before their workers are killed; default is 30 seconds.
        """
        limit = seconds(timeout)
        with self._lifecycle:
            if self._replica is not None:
                replica, self._replica, self._context = self._replica, None, None
                try:
                    replica.stop(_DRAIN_S if limit is None else limit)
                finally:
                    switch_interval.leave()

    def configure(self, **changes: Unpack[Changes]) -> None:
        """Change what can change while it runs: `time_budget`, `default_priority`, `retain`, `room` and `limits`.

        Raises:
            Invalid: Something cannot change, or has a bad value; nothing was changed.
        """
        with self._lifecycle:
            before, self._settings = self._settings, change(self._settings, changes)
            if self._replica is not None and self._context is not None:
                apply(self._settings, before, self._replica, self._context)

    @property
    def _ready(self) -> Context:
        context = self._context
        if context is None:
            raise EngineUnavailable("the engine does not run; call start(), or use it as a context manager")
        return context

    def processes(self) -> tuple[ProcessInfo, ...]:
        """Give the processes: the engine's own, the zygote, the workers; none while it does not run."""
        replica = self._replica
        return () if replica is None else processes(replica)
