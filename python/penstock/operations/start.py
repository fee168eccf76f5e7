"""How an engine begins: its settings checked, its parts made and started in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from penstock.app import App
from penstock.clock import SharedClock, wall_clock_ms
from penstock.errors import Invalid
from penstock.operations.context import Context
from penstock.operations.limits import Checked, Limits, check_limits, set_limits
from penstock.operations.notify import tell_stopped
from penstock.operations.port import EnginePort, load
from penstock.options import (
    INT32,
    MAX_KEY_BYTES,
    Duration,
    budget_ms,
    check_names,
    check_text,
    duration_ms,
)
from penstock.runtime.loop import AnyPool, PoolMaker
from penstock.runtime.replica import Replica
from penstock.workers.inline import InlinePool
from penstock.workers.pool import Pool
from penstock.workers.spec import AppSpec

if TYPE_CHECKING:
    from penstock.host import FlowStopped, GraphLoader, TaskExecutor

#: The number of the one shard.
SHARD = 1
#: A shorter one would lapse between two beats of a busy machine, a longer one would keep flows from being taken over.
SHORTEST_LEASE_MS = 500
LONGEST_LEASE_MS = 3_600_000
#: Numbers of steps are integers of 64 bits.
MOST_STEPS = 2**62
# Workers of a start that failed have nothing to do: they end at once when asked.
_GIVE_UP_S = 2.0


class EngineOptions(TypedDict, total=False):
    """The options of `Engine` and `AsyncEngine` as keyword arguments.

    Attributes:
        workers: Worker processes; 0, the default, runs tasks on threads of this process, for tests and notebooks.
        threads: Sync tasks that a worker runs at a time; default 1.
        name: A label. Where engines share a database, one that is started again under its name need not wait for the
            lease of its predecessor to take over its flows.
        lease: How long a replica that is not heard of keeps its flows; default 15 seconds.
        time_budget: Longest attempt of a step, unless flow or node says otherwise; default 2 minutes.
        default_priority: Of flows that name none, default 100; lower runs first.
        retain: How long flows stay after they have finished; None, the default, keeps them.
        loader: Finds graphs that the app does not hold.
        executor: Runs the tasks in this process instead of the app's functions in workers.
        on_flow_stopped: Called, at least once, with the outcome and the address of each flow that was created with
            `notify_on_stop` and has stopped.
        room: Flows held in memory at most, default 2 048; what is beyond waits in the database.
        max_steps: Steps that one flow may create, default 1 000 000; the step that would exceed it fails with the
            code `max_steps`.
        limits: What this engine may ask of each resource, by name: `Limit(…)`, or a list of one on the whole and one on
            each partition.
        clock: The time in milliseconds since 1970, for tests; default is the database's.
    """

    workers: int
    threads: int
    name: str | None
    lease: Duration
    time_budget: Duration
    default_priority: int
    retain: Duration | None
    loader: GraphLoader | None
    executor: TaskExecutor | None
    on_flow_stopped: FlowStopped | None
    room: int
    max_steps: int
    limits: Limits | None
    clock: Callable[[], int] | None


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of an engine, checked."""

    app: App | None
    spec: AppSpec | None
    """Where workers find the app; None when tasks run in this process."""
    url: str
    workers: int
    threads: int
    name: str | None
    lease_ms: int
    time_budget_ms: int
    default_priority: int
    retain_ms: int | None
    loader: GraphLoader | None
    executor: TaskExecutor | None
    on_flow_stopped: FlowStopped | None
    room: int
    max_steps: int
    limits: Checked
    clock: Callable[[], int] | None

    @classmethod
    def read(cls, app: App | str | None, url: str, options: EngineOptions) -> Settings:
        """Make settings from the arguments of an engine; see `check`.

        Raises:
            TypeError: An option is unknown; the message names the nearest one.
        """
        check_names("Engine() has no option", options, EngineOptions.__annotations__, TypeError)
        return cls.check(app=app, url=url, **options)

    @classmethod
    def check(
        cls,
        *,
        app: App | str | None,
        url: str,
        workers: int = 0,
        threads: int = 1,
        name: str | None = None,
        lease: Duration = 15.0,
        time_budget: Duration = timedelta(minutes=2),
        default_priority: int = 100,
        retain: Duration | None = None,
        loader: GraphLoader | None = None,
        executor: TaskExecutor | None = None,
        on_flow_stopped: FlowStopped | None = None,
        room: int = 2_048,
        max_steps: int = 1_000_000,
        limits: Limits | None = None,
        clock: Callable[[], int] | None = None,
    ) -> Settings:
        """Refuse what cannot work, before anything is started.

        Raises:
            Invalid: The message names the argument, the value and the way out.
        """
        check_url(url)
        check_least(workers, "workers", 0)
        check_least(threads, "threads", 1)
        check_least(room, "room", 1)
        check_least(max_steps, "max_steps", 1)
        if max_steps > MOST_STEPS:
            raise Invalid(f"max_steps is {max_steps!r}: at most {MOST_STEPS} can be counted")
        check_priority(default_priority)
        if name is not None:
            check_text(name, "name", MAX_KEY_BYTES)
        if executor is not None and workers > 0:
            raise Invalid("an executor runs its tasks in this process: leave out workers")
        if on_flow_stopped is not None and not callable(on_flow_stopped):
            raise Invalid(f"on_flow_stopped is {on_flow_stopped!r}: give a function of outcome and address")
        found, spec = _find_app(app, executor, workers)
        return cls(
            app=found,
            spec=spec,
            url=url,
            workers=workers,
            threads=threads,
            name=name,
            lease_ms=_lease_ms(lease),
            time_budget_ms=budget_ms(time_budget),
            default_priority=default_priority,
            retain_ms=retain_ms(retain),
            loader=loader,
            executor=executor,
            on_flow_stopped=on_flow_stopped,
            room=room,
            max_steps=max_steps,
            limits=check_limits(limits),
            clock=clock,
        )

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return without_password(self.url)

    def pool_maker(self) -> PoolMaker:
        """What makes the pool on the loop's thread."""

        def make(**callbacks: Any) -> AnyPool:
            if self.spec is not None:
                clock = self.clock if isinstance(self.clock, SharedClock) else None
                return Pool(self.spec, workers=self.workers, threads=self.threads, clock=clock, **callbacks)
            tasks = self.executor if self.executor is not None else self.app
            assert tasks is not None
            now = self.clock or wall_clock_ms
            return InlinePool(tasks, threads=self.threads, now=now, **callbacks)

        return make


def begin(settings: Settings) -> tuple[Replica, Context]:
    """Make and start everything; on failure nothing is left running.

    Raises:
        EngineUnavailable: The database or the workers do not come up.
        Invalid: A graph does not compile, or needs a task that is not there.
    """
    definitions = definitions_of(settings.app)
    replica = Replica(
        settings.url,
        shard=SHARD,
        name=settings.name,
        lease_ms=settings.lease_ms,
        core_options={
            "room": settings.room,
            "max_steps": settings.max_steps,
            "threads": settings.threads,
            "time_budget_ms": settings.time_budget_ms,
        },
        make_pool=settings.pool_maker(),
        find_graph=None if settings.loader is None else partial(load, settings.loader),
        now=settings.clock,
        retain_ms=settings.retain_ms,
    )
    context = Context(
        shard=SHARD,
        store=replica.store,
        waiters=replica.waiters,
        port=EnginePort(replica, settings.loader),
        default_priority=settings.default_priority,
        time_budget_ms=settings.time_budget_ms,
        url=settings.shown_url,
        owner_name=settings.name,
    )
    if settings.on_flow_stopped is not None:
        replica.subscribe(partial(tell_stopped, context, settings.on_flow_stopped))
    try:
        for definition in definitions.values():
            replica.core.add_graph(definition)
        replica.start_workers()
        set_limits(replica, settings.limits)
        # Before the writer runs: this thread is the only one that writes.
        for name, definition in definitions.items():
            replica.publish(name, definition)
        replica.start()
    except BaseException:
        replica.stop(_GIVE_UP_S)
        raise
    return replica, context


def check_least(value: int, what: str, least: int) -> None:
    """Refuse what is no integer, or too small."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise Invalid(f"{what} is {value!r}: give an integer of at least {least}")


def retain_ms(retain: Duration | None) -> int | None:
    """How long finished flows stay; None for ever."""
    return None if retain is None else duration_ms(retain, "retain", is_zero_allowed=False)


def check_url(url: str) -> None:
    """Refuse what is no text; what it says is the store's business."""
    if not isinstance(url, str):
        raise Invalid(f"url is {url!r}: give a SQLAlchemy URL, such as 'sqlite:///flows.db'")


def check_priority(default_priority: int) -> None:
    """Refuse a default that no flow could have."""
    if isinstance(default_priority, bool) or not isinstance(default_priority, int):
        raise Invalid(f"default_priority is {default_priority!r}: give an integer")
    if default_priority not in INT32:
        raise Invalid(f"default_priority is {default_priority!r}: it must fit into 32 bits")


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    try:
        shown = make_url(url)
    except ArgumentError:
        return "an unreadable URL"
    query = {name: "***" if name == "password" else value for name, value in shown.query.items()}
    return shown.set(query=query).render_as_string(hide_password=True)


def _lease_ms(lease: Duration) -> int:
    lease_ms = duration_ms(lease, "lease")
    if not SHORTEST_LEASE_MS <= lease_ms <= LONGEST_LEASE_MS:
        raise Invalid(f"lease is {lease!r}: give from half a second to an hour; the default is 15 seconds")
    return lease_ms


def _find_app(
    app: App | str | None, executor: TaskExecutor | None, workers: int
) -> tuple[App | None, AppSpec | None]:
    if app is None:
        if executor is None:
            raise Invalid("app is None: pass an App, its address as 'module:attribute', or an executor")
        return None, None
    if not isinstance(app, (App, str)):
        raise Invalid(f"app is {app!r}: pass an App, or its address as 'module:attribute'")
    spec = AppSpec.of(app) if isinstance(app, str) or workers > 0 else None
    if isinstance(app, str):
        assert spec is not None
        app = load_app(spec)
    return app, spec if workers > 0 else None


def load_app(spec: AppSpec) -> App:
    """Import an app by its address."""
    try:
        return spec.load()
    except ImportError as error:
        raise Invalid(f"the app {spec.target}:{spec.attribute} cannot be imported: {error}") from error


def definitions_of(app: App | None) -> dict[str, bytes]:
    """The graphs of an app by workflow."""
    if app is None:
        return {}
    app.tasks()  # functions that stand for nodes are refused here when their names clash
    return {name: app.get_graph(name).definition() for name in app.graphs()}
