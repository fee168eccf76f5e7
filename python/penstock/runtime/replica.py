"""One engine's machinery on one shard: store, core, writer, poller and loop, started and stopped in order."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock._core import Core
from penstock.clock import SharedClock
from penstock.errors import Invalid
from penstock.runtime.claims import Claims
from penstock.runtime.correlation import correlation_id, without_keys
from penstock.runtime.graph_finder import FindGraph, GraphFinder
from penstock.runtime.heartbeat import Heartbeat
from penstock.runtime.histories import Histories
from penstock.runtime.housekeeping import Housekeeping
from penstock.runtime.inbox import Inbox
from penstock.runtime.leap import Leap
from penstock.runtime.loop import Loop, PoolMaker
from penstock.runtime.notices import Notices
from penstock.runtime.poller import Poller
from penstock.runtime.resource_exchange import ResourceExchange
from penstock.runtime.retention import Retention
from penstock.runtime.service import Service
from penstock.runtime.waiters import Waiters
from penstock.runtime.writer import Writer
from penstock.store import open_store

if TYPE_CHECKING:
    from penstock._core import Report
    from penstock.store.batch import Fenced
    from penstock.store.rows import Notice
    from penstock.workers.tasks import TaskTable

_log = logging.getLogger(__name__)
_CLEAN_EVERY_MS = 60_000

# A thread of the host that computes holds the interpreter for this long at most: 5 ms, the default, makes each of a
# step's hand-overs cost that much.
_SWITCH_INTERVAL_S = 0.0005


class SwitchInterval:
    """Keeps the interpreter's switch interval short while any engine of the process runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._engines = 0
        self._before = 0.0

    def enter(self) -> None:
        """An engine starts."""
        with self._lock:
            self._engines += 1
            if self._engines == 1:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _SWITCH_INTERVAL_S))

    def leave(self) -> None:
        """An engine has stopped; the last one puts back what it found."""
        with self._lock:
            self._engines -= 1
            if self._engines == 0:
                sys.setswitchinterval(self._before)


switch_interval = SwitchInterval()


class Replica:
    """What an engine runs on one shard. Made and started by one thread; its members serve any."""

    def __init__(
        self,
        url: str,
        *,
        shard: int,
        name: str | None,
        lease_ms: int,
        core_options: Mapping[str, Any],
        make_pool: PoolMaker,
        find_graph: FindGraph | None = None,
        now: Callable[[], int] | None = None,
        retain_ms: int | None = None,
    ) -> None:
        """Open the store, register, and make the core. `start` sets it going.

        Raises:
            EngineUnavailable: The database cannot be reached, or another engine holds it.
            Invalid: The URL cannot be used.
        """
        self.shard = shard
        self.store = open_store(url, now)
        self._register = partial(
            self.store.register, name=name, capacity=int(core_options.get("room", 0)), lease_ms=lease_ms
        )
        try:
            self.core = Core(self._register(), shard, dict(core_options))
        except BaseException:
            self.store.close()
            raise
        self._name_of = partial(correlation_id, shard)
        self.waiters = Waiters(self.store, self.core.owned_of)
        self.writer = Writer(self.store, self.core, self._on_committed, self._on_fenced, self._on_foreign)
        self._inbox = Inbox(self.store, self.core)
        self._claims = Claims(
            self.store, self.core, self.writer, self._inbox, self._admit, self._on_fenced, self._name_of
        )
        self.loop = Loop(self.core, self.store.now, make_pool, self.writer.wake)
        self.poller = Poller(
            self.store,
            self.core,
            self._inbox,
            self._claims,
            self._on_work,
            self._tick,
            Histories(self.store, self.core),
        )
        self._finder = None if find_graph is None else GraphFinder(self, find_graph)
        self.retention = Retention(self.store, self.writer, retain_ms)
        self._resources = ResourceExchange(self.store, self.core, self.writer, lease_ms, self.loop.kick)
        self._notices: Notices | None = None
        self._peers = self._make_peer_services(lease_ms) if self.store.is_shared else ()
        # Set by any thread that learns of it, cleared by the poller's.
        self._is_fenced = False
        # Flows whose creators wait to be told whether they are stored; the poller's thread alone.
        self._unstored: set[bytes] = set()
        self._next_clean = self.store.now() + _CLEAN_EVERY_MS
        self._leap = Leap(self.store.now)
        self._forget_clock = now.listen(self._on_leap) if isinstance(now, SharedClock) else lambda: None

    def publish(self, workflow: str, definition: bytes, *, is_lasting: bool = True) -> bytes:
        """Make a workflow known to the core and to every process that reads the database; its graph's id.

        Args:
            workflow: Its name.
            definition: What it means.
            is_lasting: The name means this graph from now on. Else the graph is one flow's, and the next one asks again.

        Raises:
            Invalid: The graph does not compile, or needs a task that the workers do not have; nothing is stored.
        """
        graph_id = self.learn(workflow, definition, is_lasting=is_lasting)
        self.store.publish(graph_id, workflow, definition.decode())
        return graph_id

    def learn(self, workflow: str, definition: bytes, *, is_lasting: bool) -> bytes:
        """Make a workflow known to the core alone; its graph's id.

        Raises:
            Invalid: As `publish`.
        """
        graph_id = self.core.add_graph(definition)
        missing = self.core.missing_tasks(graph_id)
        if missing:
            raise Invalid(
                f"workflow {workflow!r} needs the task {missing[0]!r}, which the workers do not have; "
                "decorate it with @app.task, above the engine in the app's module"
            )
        if is_lasting:
            self.core.publish(workflow, graph_id)
        return graph_id

    def start_workers(self) -> TaskTable:
        """Start the loop and the workers; the tasks that they have.

        Raises:
            EngineUnavailable: The workers do not come up.
        """
        table = self.loop.start()
        self.core.set_tasks(table.rows())
        if table.default is not None:
            self.core.set_default_kind(table.default)
        return table

    def subscribe(self, deliver: Callable[[Notice], None]) -> None:
        """Have the stops of flows told that ask for it. Before `start`."""
        self._notices = Notices(self.store, self.writer, deliver)

    def start(self) -> None:
        """Begin to write and to claim."""
        self._resources.learn()
        self.writer.start()
        self.poller.start()
        if self._finder is not None:
            self._finder.start()
        for service in self._services:
            service.start()
        self.loop.kick()

    def stop(self, timeout: float) -> None:
        """Drain for up to *timeout* seconds, release the flows and close everything. Idempotent."""
        self._forget_clock()
        self.poller.stop()
        self.loop.stop(timeout)
        if self._finder is not None:
            # A host that still looks for a graph is not waited for: whoever takes the flow asks again.
            self._finder.stop(timeout)
        if self._notices is not None and not self._notices.stop(timeout):
            _log.warning("A function that was told of a stop has not returned; it is told again.")
        self._resources.flush()
        self.writer.stop()
        for service in self._peers:
            service.stop()
        try:
            self.store.leave()
        finally:
            self.store.close()
            self.waiters.close()

    @property
    def _services(self) -> tuple[Service, ...]:
        return self._peers if self._notices is None else (*self._peers, self._notices)

    def _on_committed(self, report: Report) -> None:
        """Tell everybody whom a commit concerns. The writer's thread."""
        self.waiters.on_report(report)
        for flow_id, message in report.broken:
            _log.error(
                "Flow %s disagrees with its journal: %s", self._name_of(flow_id), without_keys(message)
            )
        if report.reload:
            self._claims.reload(report.reload)
        if self._finder is not None:
            self._finder.wake()
        if report.mail or report.reload or self.waiters.wants_verdicts:
            self.poller.poke()
        if report.notices and self._notices is not None:
            self._notices.wake()
        self.loop.kick()

    def _on_leap(self) -> None:
        """Look at all timers: the clock has leapt, and what they were set by has not."""
        self.loop.kick()
        self.poller.poke()

    def _on_work(self) -> None:
        self.writer.wake()
        if self._finder is not None:
            self._finder.wake()
        self.loop.kick()

    def _on_fenced(self, fenced: Fenced) -> None:
        """Have the poller register anew. Any thread; what is known already, or long over, changes nothing."""
        if fenced.replica_id == self.store.replica_id and not self._is_fenced:
            _log.error("Replica %d is no more: its flows are others' now.", fenced.replica_id)
            self._is_fenced = True
            self.poller.poke()

    def _on_foreign(self, flow_ids: Sequence[bytes]) -> None:
        """Forget flows that others own by now. The writer's thread."""
        for flow_id in flow_ids:
            _log.warning("Flow %s is not owned here any more and is dropped.", self._name_of(flow_id))
            self._load_again(self.core.drop_flow(flow_id))

    def _rejoin(self) -> None:
        """Go on as a stranger that inherits nothing. The poller's thread.

        Raises:
            EngineUnavailable: The database is away; called again then.
        """
        self._unstored.update(self.writer.run(self._begin_anew).result())
        self._is_fenced = False
        self._inbox.forget()
        self._claims.forget()
        self.loop.replace_workers("its engine lost its registration")
        _log.warning("This engine goes on as replica %d.", self.store.replica_id)

    def _begin_anew(self) -> list[bytes]:
        """Register, and forget all flows; those that were being created. The writer's thread."""
        replica_id = self._register()
        self.writer.forget()
        return self.core.rejoin(replica_id)

    def _tell_creators(self) -> None:
        """Look up what became of flows whose creation was under way when the registration was lost."""
        stored = self.store.outcomes(self._unstored)
        for flow_id in self._unstored:
            self.waiters.on_lost_creation(flow_id, is_stored=flow_id in stored)
        self._unstored.clear()

    def _make_peer_services(self, lease_ms: int) -> tuple[Service, ...]:
        housekeeping = Housekeeping(
            self.store,
            self.core,
            lease_ms,
            self._load_again,
            on_released=self.poller.poke,
            name_of=self._name_of,
        )
        return Heartbeat(self.store, lease_ms, self._on_fenced), housekeeping

    def _load_again(self, flow_ids: Iterable[bytes]) -> None:
        self._claims.reload(flow_ids)
        self.poller.poke()

    def _admit(self, graph_id: bytes, definition: str) -> bool:
        """Learn a graph that a claimed flow has; whether all of its tasks are here."""
        try:
            self.core.add_graph(definition.encode())
        except Invalid as error:
            _log.error("Graph %s cannot be read: %s", graph_id.hex()[:12], error)
            return False
        return not self.core.missing_tasks(graph_id)

    def _tick(self) -> None:
        if self._is_fenced:
            self._rejoin()
        if self._unstored:
            self._tell_creators()
        self.waiters.tick()
        if self._leap.has_leapt():
            self.loop.kick()
        now = self.store.now()
        if now >= self._next_clean:
            self._next_clean = now + _CLEAN_EVERY_MS
            self.writer.run(self.store.clean)
        self.retention.tick(now)
        self._resources.tick(now)
