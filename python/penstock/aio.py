"""The engine for hosts with an event loop: the same operations, awaited.

No thread stands behind a wait. What an operation does between its waits may ask the database, so it runs on one of a
few threads; while it waits, it is a future of the caller's loop.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, Unpack

from sqlalchemy.engine import Connection

from penstock.app import App
from penstock.engine import Engine
from penstock.errors import EngineUnavailable, Invalid
from penstock.operations import (
    breakpoints,
    cancel,
    create,
    draw,
    find,
    fork,
    history,
    interrupts,
    overview,
    pause,
    read,
    remove,
    replicas,
    resume,
    rewinds,
    run_task,
    shards,
    signal,
    threads,
    wait,
    waits,
)
from penstock.operations.configure import Changes
from penstock.operations.context import VERDICT_TIMEOUT_S, Context
from penstock.operations.operation import Operation, Until
from penstock.operations.start import EngineOptions

if TYPE_CHECKING:
    from penstock.graph import Direction
    from penstock.host import FlowStopped
    from penstock.operations.create import HostConnection
    from penstock.options import CreateOptions, Duration, FlowOptions, ListFilters, PurgeFilters
    from penstock.outcome import (
        FlowSummary,
        Json,
        OpenInterrupt,
        Outcome,
        Page,
        ProcessInfo,
        ReplicaInfo,
        ResourceInfo,
        ShardInfo,
        StepInfo,
        WaitingStep,
    )

T = TypeVar("T")
P = ParamSpec("P")
_THREADS = 8


class AsyncEngine:
    """An `Engine` whose operations are awaited, on the loop that started it, which they never block.

    Use it as an asynchronous context manager, or await `start` and `shutdown`. A task that is cancelled while it awaits
    an operation leaves the flow as it is. Arguments are those of `Engine`.

    Raises:
        Invalid: An argument is out of range, or the app cannot be found by workers.
    """

    def __init__(self, app: App | str | None, url: str, **options: Unpack[EngineOptions]) -> None:
        callback = options.get("on_flow_stopped")
        if callable(callback):
            options["on_flow_stopped"] = partial(self._tell_stopped, callback)
        self._engine = Engine(app, url, **options)
        # Set by `start`, read by the thread that tells of stops:
        self._loop: asyncio.AbstractEventLoop | None = None
        # All read and written on the loop's thread:
        self._pool: ThreadPoolExecutor | None = None
        self._under_way = 0
        self._is_idle = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    def __repr__(self) -> str:
        return f"<Async{repr(self._engine)[1:]}"

    async def start(self) -> None:
        """As `Engine.start`. When the caller is cancelled meanwhile, nothing stays behind."""
        self._loop = asyncio.get_running_loop()
        starting = _on_a_thread(self._engine.start)
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait((starting,))
            await _on_a_thread(partial(self._engine.shutdown, 0))
            raise
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="penstock-operation")

    async def shutdown(self, timeout: Duration | None = None) -> None:
        """As `Engine.shutdown`; operations that wait are refused. It goes on when the caller is cancelled."""
        await asyncio.shield(asyncio.ensure_future(self._stop(timeout)))

    async def _stop(self, timeout: Duration | None) -> None:
        await _on_a_thread(partial(self._engine.shutdown, timeout))
        # Everybody who waited has been told, and needs a thread once more to hear it.
        while self._under_way:
            self._is_idle.clear()
            await self._is_idle.wait()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)

    async def configure(self, **changes: Unpack[Changes]) -> None:
        """As `Engine.configure`."""
        self._engine.configure(**changes)

    def _tell_stopped(self, callback: FlowStopped, outcome: Outcome, address: str) -> None:
        """Call the host on this thread; what it wants awaited is awaited on its own loop."""
        result = callback(outcome, address)
        if inspect.isawaitable(result):
            assert self._loop is not None
            asyncio.run_coroutine_threadsafe(_awaited(result), self._loop).result()

    # --- operations: one line each, what they mean is in `operations` ---

    async def create(
        self,
        workflow: str,
        state: Mapping[str, Json] | None = None,
        *,
        connection: HostConnection | None = None,
        **options: Unpack[CreateOptions],
    ) -> str:
        """As `Engine.create`; the connection may be an asynchronous one."""
        if connection is not None:
            asked = create.read_options(options)
            return (await self._create_within(connection, workflow, [state], asked))[0]
        return await self._complete(create.create(self._ready, workflow, state, None, options))

    async def create_many(
        self,
        workflow: str,
        states: Sequence[Mapping[str, Json] | None],
        *,
        connection: HostConnection | None = None,
        **options: Unpack[CreateOptions],
    ) -> builtins.list[str]:
        """As `Engine.create_many`; the connection may be an asynchronous one."""
        if connection is not None:
            asked = create.read_many(states, options)
            return await self._create_within(connection, workflow, states, asked)
        return await self._complete(create.create_many(self._ready, workflow, states, None, options))

    async def run(
        self,
        workflow: str,
        state: Mapping[str, Json] | None = None,
        *,
        timeout: Duration | None = None,
        **options: Unpack[CreateOptions],
    ) -> Outcome:
        """As `Engine.run`."""
        return await self._complete(wait.run(self._ready, workflow, state, timeout, options))

    async def run_task(
        self,
        task: str | Callable[..., Any],
        state: Mapping[str, Json] | None = None,
        *,
        timeout: Duration | None = None,
        **options: Unpack[CreateOptions],
    ) -> Outcome:
        """As `Engine.run_task`."""
        return await self._complete(run_task.run_task(self._ready, task, state, timeout, options))

    async def wait(self, key: str, *, timeout: Duration | None = None, until: str | None = None) -> Outcome:
        """As `Engine.wait`."""
        return await self._complete(wait.wait(self._ready, key, timeout, until))

    async def poll(self, key: str, *, timeout: Duration = 0) -> Outcome:
        """As `Engine.poll`."""
        return await self._complete(wait.poll(self._ready, key, timeout))

    async def snapshot(self, key: str) -> Outcome:
        """As `Engine.snapshot`."""
        return await self._call(read.snapshot, self._ready, key)

    async def history(self, key: str) -> tuple[StepInfo, ...]:
        """As `Engine.history`."""
        return await self._call(history.history, self._ready, key)

    async def step(self, step_key: str) -> StepInfo:
        """As `Engine.step`."""
        return await self._call(history.step, self._ready, step_key)

    async def history_mermaid(self, key: str, direction: Direction = "TB") -> str:
        """As `Engine.history_mermaid`."""
        return await self._call(draw.history_mermaid, self._ready, key, direction)

    async def fingerprint(self, key: str) -> str:
        """As `Engine.fingerprint`."""
        return await self._call(overview.fingerprint, self._ready, key)

    async def progress(self, key: str) -> Mapping[str, int]:
        """As `Engine.progress`."""
        return await self._call(overview.progress, self._ready, key)

    async def list(self, **filters: Unpack[ListFilters]) -> Page[FlowSummary]:
        """As `Engine.list`."""
        return await self._call(find.find, self._ready, filters)

    async def delete(self, key: str, *, timeout: Duration = VERDICT_TIMEOUT_S) -> None:
        """As `Engine.delete`."""
        await self._complete(remove.delete(self._ready, key, timeout))

    async def purge(self, **filters: Unpack[PurgeFilters]) -> int:
        """As `Engine.purge`."""
        return await self._complete(remove.purge(self._ready, filters))

    async def shards(self) -> tuple[ShardInfo, ...]:
        """As `Engine.shards`."""
        return await self._call(shards.shards, self._ready)

    async def replicas(self) -> tuple[ReplicaInfo, ...]:
        """As `Engine.replicas`."""
        return await self._call(replicas.replicas, self._ready)

    async def why(self, key: str) -> tuple[WaitingStep, ...]:
        """As `Engine.why`."""
        return await self._call(waits.why, self._ready, key)

    async def waiting(self, *, resource: str | None = None, limit: int = 100) -> tuple[WaitingStep, ...]:
        """As `Engine.waiting`."""
        return await self._call(waits.waiting, self._ready, resource, limit)

    async def resources(self) -> tuple[ResourceInfo, ...]:
        """As `Engine.resources`."""
        return await self._call(waits.resources, self._ready)

    async def resume(
        self,
        key: str,
        answer: Json = None,
        *,
        interrupt_id: str | None = None,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """As `Engine.resume`."""
        await self._complete(resume.resume(self._ready, key, answer, interrupt_id, timeout))

    async def signal(
        self, key: str, name: str, payload: Json = None, *, timeout: Duration = VERDICT_TIMEOUT_S
    ) -> None:
        """As `Engine.signal`."""
        await self._complete(signal.signal(self._ready, key, name, payload, timeout))

    async def interrupts(
        self,
        *,
        workflow: str | None = None,
        node: str | None = None,
        key: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[OpenInterrupt]:
        """As `Engine.interrupts`."""
        return await self._call(interrupts.interrupts, self._ready, workflow, node, key, limit, cursor)

    async def pause(self, key: str, reason: str = "", *, timeout: Duration = VERDICT_TIMEOUT_S) -> None:
        """As `Engine.pause`."""
        await self._complete(pause.pause(self._ready, key, reason, timeout))

    async def unpause(self, key: str, *, timeout: Duration = VERDICT_TIMEOUT_S) -> None:
        """As `Engine.unpause`."""
        await self._complete(pause.unpause(self._ready, key, timeout))

    async def break_before(
        self, key: str, node: str, on: bool = True, *, timeout: Duration = VERDICT_TIMEOUT_S
    ) -> None:
        """As `Engine.break_before`."""
        await self._complete(breakpoints.break_before(self._ready, key, node, on, timeout))

    async def resume_break(
        self,
        key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """As `Engine.resume_break`."""
        await self._complete(breakpoints.resume_break(self._ready, key, overrides, timeout))

    async def cancel(self, key: str, reason: str = "", *, timeout: Duration = VERDICT_TIMEOUT_S) -> None:
        """As `Engine.cancel`."""
        await self._complete(cancel.cancel(self._ready, key, reason, timeout))

    async def restart(
        self,
        key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """As `Engine.restart`."""
        await self._complete(rewinds.restart(self._ready, key, overrides, timeout))

    async def restart_from(
        self,
        step_key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """As `Engine.restart_from`."""
        await self._complete(rewinds.restart_from(self._ready, step_key, overrides, timeout))

    async def retry_step(
        self,
        step_key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """As `Engine.retry_step`."""
        await self._complete(rewinds.retry_step(self._ready, step_key, overrides, timeout))

    async def recover(
        self,
        key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> int:
        """As `Engine.recover`."""
        return await self._complete(rewinds.recover(self._ready, key, overrides, timeout))

    async def fork(self, step_key: str, overrides: Mapping[str, Json] | None = None) -> str:
        """As `Engine.fork`."""
        return await self._complete(fork.fork(self._ready, step_key, overrides))

    async def continue_(self, thread: str, more: Mapping[str, Json] | None = None) -> str:
        """As `Engine.continue_`."""
        return await self._complete(threads.continue_(self._ready, thread, more))

    async def processes(self) -> tuple[ProcessInfo, ...]:
        """As `Engine.processes`."""
        return await self._call(self._engine.processes)

    # --- how an operation is awaited ---

    async def _create_within(
        self,
        connection: HostConnection,
        workflow: str,
        states: Sequence[Mapping[str, Json] | None],
        asked: FlowOptions,
    ) -> builtins.list[str]:
        context = self._ready
        prepared = await self._call(create.prepare_within, context, workflow, states, asked)
        if isinstance(connection, Connection):
            return await self._call(create.store_within, context, prepared, connection)
        run_sync = getattr(connection, "run_sync", None)
        if run_sync is None:
            raise Invalid(
                f"connection is {connection!r:.80}: pass an AsyncConnection or a Connection of SQLAlchemy's"
            )
        keys: builtins.list[str] = await run_sync(
            lambda conn: create.store_within(context, prepared, _connection_of(conn))
        )
        return keys

    @property
    def _ready(self) -> Context:
        return self._engine._ready

    async def _call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._submit(fn, *args, **kwargs))

    async def _complete(self, operation: Operation[T]) -> T:
        self._under_way += 1
        try:
            return await self._follow(operation)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._is_idle.set()

    async def _follow(self, operation: Operation[T]) -> T:
        is_in_time: bool | None = None
        while True:
            part = self._submit(_advance, operation, is_in_time)
            try:
                reached = await asyncio.wrap_future(part)
                if isinstance(reached, _Returned):
                    return reached.value
                is_in_time = await _arrival(reached)
            except asyncio.CancelledError:
                # Closed when its part has ended, or will not begin: then the wait that it entered is left.
                part.add_done_callback(lambda _: operation.close())
                raise

    def _submit(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call *fn* on a thread, which sees the caller's context variables."""
        if self._pool is None:
            raise EngineUnavailable("the engine does not run; await start(), or use `async with`")
        return self._pool.submit(copy_context().run, partial(fn, *args, **kwargs))


def _connection_of(given: Any) -> Connection:
    """The connection itself; an AsyncSession gives its session, which is in a transaction by one."""
    return given if isinstance(given, Connection) else given.connection()


@dataclass(frozen=True, slots=True)
class _Returned(Generic[T]):
    """What an operation came to, as against what it waits for."""

    value: T


def _advance(operation: Operation[T], is_in_time: bool | None) -> Until | _Returned[T]:
    try:
        return next(operation) if is_in_time is None else operation.send(is_in_time)
    except StopIteration as end:
        return _Returned(end.value)


async def _arrival(until: Until) -> bool:
    """Wait without a thread; whether it came in time."""
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()
    until.waiter.on_set(partial(_tell, loop, arrived))
    done, _ = await asyncio.wait((arrived,), timeout=until.seconds)
    return bool(done)


def _tell(loop: asyncio.AbstractEventLoop, arrived: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_set, arrived)
    except RuntimeError:
        # The loop was closed under its waits: nobody is there to be told.
        pass


def _set(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)


async def _awaited(result: Awaitable[None]) -> None:
    await result


def _on_a_thread(fn: Callable[[], None]) -> asyncio.Future[None]:
    """Call *fn* on a thread of its own: the loop's pool may be full of what waits for this."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="penstock-lifecycle")
    done = asyncio.wrap_future(pool.submit(fn))
    pool.shutdown(wait=False)
    return done
