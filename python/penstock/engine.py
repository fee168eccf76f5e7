"""The engine: an embedded host of durable flows.

Everything an engine does is in `runtime` (its machinery) and `operations` (its use cases); here are its life and its
names.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, Unpack

from penstock.app import App
from penstock.errors import EngineUnavailable
from penstock.operations import cancel, create, find, read, resume, run_task, wait
from penstock.operations.context import VERDICT_TIMEOUT_S, Context
from penstock.operations.start import Settings, begin
from penstock.runtime.replica import switch_interval
from penstock.workers.main_import import stop_if_importing

if TYPE_CHECKING:
    from penstock.host import GraphLoader, TaskExecutor
    from penstock.options import CreateOptions, Duration
    from penstock.outcome import FlowSummary, Json, Outcome, Page, StepInfo
    from penstock.runtime.replica import Replica

_DRAIN_S = 30.0


class Engine:
    """Runs the flows of an app on a database. Blocking, and safe to use from any thread.

    Use it as a context manager, or call `start` and `shutdown`.

    Args:
        app: An `App`, or its address as `"module:attribute"`.
        url: A SQLAlchemy URL: `sqlite:///flows.db`; `sqlite://` is a database that goes with the engine.
        workers: Worker processes; 0 runs tasks on threads of this process, for tests and notebooks.
        threads: Sync tasks that a worker runs at a time.
        name: A label; an engine started again under its name takes its own flows back.
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
        limit = wait.seconds(timeout)
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

    # --- operations: one line each, what they mean is in `operations` ---

    def create(
        self, workflow: str, state: Mapping[str, Json] | None = None, **options: Unpack[CreateOptions]
    ) -> str:
        """Create a flow, which runs from then on; its key, once the flow is safe in the database.

        Raises:
            NotFound: No such workflow.
            Invalid: The state or an option is bad; nothing was stored.
            Conflict: The idempotency key names a flow with another input.
        """
        return create.create(self._ready, workflow, state, options)

    def create_many(
        self, workflow: str, states: Sequence[Mapping[str, Json] | None], **options: Unpack[CreateOptions]
    ) -> builtins.list[str]:
        """Create a flow for each state, all or none; their keys in order."""
        return create.create_many(self._ready, workflow, states, options)

    def run(
        self,
        workflow: str,
        state: Mapping[str, Json] | None = None,
        *,
        timeout: Duration | None = None,
        **options: Unpack[CreateOptions],
    ) -> Outcome:
        """Create a flow and wait for it. A workflow that fails is an outcome, not an exception.

        Raises:
            WaitTimeout: It has not stopped in time; it goes on, and `flow_key` names it.
        """
        return wait.run(self._ready, workflow, state, timeout, options)

    def run_task(
        self,
        task: str | Callable[..., Any],
        state: Mapping[str, Json] | None = None,
        *,
        timeout: Duration | None = None,
        **options: Unpack[CreateOptions],
    ) -> Outcome:
        """Run one task as a flow with that one node, and wait for it."""
        return run_task.run_task(self._ready, task, state, timeout, options)

    def wait(self, key: str, *, timeout: Duration | None = None) -> Outcome:
        """Wait until a flow has stopped: completed, failed, cancelled or interrupted.

        Raises:
            NotFound: No such flow.
            WaitTimeout: It has not stopped in time.
        """
        return wait.wait(self._ready, key, timeout)

    def poll(self, key: str, *, timeout: Duration = 0) -> Outcome:
        """Wait for up to `timeout`, then tell how the flow stands, with its current state."""
        return wait.poll(self._ready, key, timeout)

    def snapshot(self, key: str) -> Outcome:
        """Tell how a flow stands now, with its current state."""
        return read.snapshot(self._ready, key)

    def history(self, key: str) -> tuple[StepInfo, ...]:
        """Give every step of a flow with its events, children nested, in order of creation."""
        return read.history(self._ready, key)

    def step(self, step_key: str) -> StepInfo:
        """Give one step in full, with the state that it saw and what it changed."""
        return read.step(self._ready, step_key)

    def list(self, **filters: Any) -> Page[FlowSummary]:
        """List flows, newest first.

        Args:
            **filters: `status`, `workflow`, `thread`, `node`, `fairness_key`, `priority`, `tags`, `error_code`,
                `search`, `older_than`, `newer_than`, `children`, `shard`; `limit` (100, at most 1 000) and `cursor`.
        """
        return find.find(self._ready, **find.check(filters))

    def resume(
        self,
        key: str,
        answer: Json = None,
        *,
        interrupt_id: str | None = None,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """Answer the oldest open interrupt of a flow, or the one named.

        Raises:
            Conflict: None is open, or somebody else has answered it.
        """
        resume.resume(self._ready, key, answer, interrupt_id, timeout)

    def cancel(self, key: str, reason: str = "", *, timeout: Duration = VERDICT_TIMEOUT_S) -> None:
        """Cancel a flow and its children: no step starts any more, and late results are dropped.

        Raises:
            Conflict: It has finished already.
        """
        cancel.cancel(self._ready, key, reason, timeout)

    def processes(self) -> dict[int, int]:
        """The worker processes by worker number; empty with `workers=0`."""
        replica = self._replica
        pool = replica.loop.pool if replica is not None else None
        return dict(pool.pids) if pool is not None else {}
