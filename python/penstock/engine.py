"""The engine: an embedded host of durable flows.

Everything an engine does is in `runtime` (its machinery) and `operations` (its use cases); here is its life.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from penstock.app import App
from penstock.errors import EngineUnavailable
from penstock.operations.context import Context
from penstock.operations.facade import Operations
from penstock.operations.start import Settings, begin
from penstock.operations.wait import seconds
from penstock.runtime.replica import switch_interval
from penstock.workers.main_import import stop_if_importing

if TYPE_CHECKING:
    from penstock.host import GraphLoader, TaskExecutor
    from penstock.options import Duration
    from penstock.runtime.replica import Replica

_DRAIN_S = 30.0


class Engine(Operations):
    """Runs the flows of an app on a database. Blocking, and safe to use from any thread.

    Use it as a context manager, or call `start` and `shutdown`.

    Args:
        app: An `App`, or its address as `"module:attribute"`.
        url: A SQLAlchemy URL: `sqlite:///flows.db`; `sqlite://` is a database that goes with the engine.
        workers: Worker processes; 0 runs tasks on threads of this process, for tests and notebooks.
        threads: Sync tasks that a worker runs at a time.
        name: A label. Where engines share a database, one that is started again under its name need not wait for
            the lease of its predecessor to take over its flows.
        lease: How long a replica that is not heard of keeps its flows.
        time_budget: Longest attempt of a step, unless flow or node says otherwise.
        default_priority: Of flows that name none; lower runs first.
        loader: Finds graphs that the app does not hold.
        executor: Runs the tasks in this process instead of the app's functions in workers.
        room: Flows held in memory at most; what is beyond waits in the database.
        clock: The time in milliseconds since 1970, for tests; default is the database's.

    Raises:
        Invalid: An argument is out of range, or the app cannot be found by workers.
    """

    def __init__(
        self,
        app: App | str | None,
        url: str,
        *,
        workers: int = 0,
        threads: int = 1,
        name: str | None = None,
        lease: Duration = 15.0,
        time_budget: Duration = timedelta(minutes=2),
        default_priority: int = 100,
        loader: GraphLoader | None = None,
        executor: TaskExecutor | None = None,
        room: int = 2_048,
        clock: Callable[[], int] | None = None,
    ) -> None:
        stop_if_importing(app)
        self._settings = Settings.check(
            app=app,
            url=url,
            workers=workers,
            threads=threads,
            name=name,
            lease=lease,
            time_budget=time_budget,
            default_priority=default_priority,
            loader=loader,
            executor=executor,
            room=room,
            clock=clock,
        )
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

    @property
    def _ready(self) -> Context:
        context = self._context
        if context is None:
            raise EngineUnavailable("the engine does not run; call start(), or use it as a context manager")
        return context

    def processes(self) -> dict[int, int]:
        """The worker processes by worker number; empty with `workers=0`."""
        replica = self._replica
        pool = replica.loop.pool if replica is not None else None
        return dict(pool.pids) if pool is not None else {}
