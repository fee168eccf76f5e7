"""How operations reach a shard: through the engine that runs here, or through the database alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import event

from penstock.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from penstock.host import GraphLoader
    from penstock.outcome import Json
    from penstock.runtime.replica import Replica

T = TypeVar("T")
#: What the core asks of a new flow; see `Core.create`.
NewRow = tuple[Any, ...]


class Port(Protocol):
    """What differs between an engine and a client. Every method serves any thread."""

    def graph_of(self, workflow: str, baggage: Mapping[str, Json]) -> bytes:
        """Find the graph that a workflow means now.

        Raises:
            NotFound: Nobody here knows the workflow.
            Invalid: Its graph does not compile, or cannot be run.
        """

    def graph_within(
        self, workflow: str, baggage: Mapping[str, Json]
    ) -> tuple[bytes, tuple[bytes, str, str] | None]:
        """As `graph_of`, but writes nothing: a definition that the database may lack is given, to be stored."""

    def expect(self, connection: Connection) -> None:
        """Look for flows soon after the host has committed on this connection."""

    def publish(self, workflow: str, definition: bytes) -> bytes:
        """Make a workflow known by its definition and give the graph's id."""

    def check_input(self, graph_id: bytes, state: str) -> None:
        """Refuse a state that no flow of the graph can start from."""

    def submit(self, rows: Sequence[NewRow], *, is_run: bool) -> None:
        """Create flows, all or none; `waiters` tells when they are safe, with *is_run* when they have stopped."""

    def watch(self, flow_id: bytes) -> None:
        """Have `waiters` tell when a flow stops."""

    def unwatch(self, flow_id: bytes) -> None:
        """Nobody waits for the flow any more."""

    def running(self, flow_id: bytes) -> list[int]:
        """Give the numbers of the flow's steps that run now, as far as it is known here."""

    def why(self, flow_id: bytes, limit: int) -> list[Any] | None:
        """Say why the flow's steps do not run; None where it is not owned here."""

    def waiting(self, resource: str | None, limit: int) -> list[Any]:
        """Say why ready steps wait, as far as it is known here."""

    def resources(self, now_ms: int) -> list[Any] | None:
        """Show what tasks lean on; None where none run."""

    def write(self, fn: Callable[[], T]) -> Future[T]:
        """Call one of the store's writes, where only one is called at a time."""

    def poke(self) -> None:
        """Look into the database at once."""

    def absence(self) -> str:
        """Say that there is no engine to do anything, as the end of a sentence; empty when there may be one."""


@dataclass(slots=True)
class EnginePort:
    """Through the core, which owns flows, and the writer's thread."""

    replica: Replica
    loader: GraphLoader | None

    def graph_of(self, workflow: str, baggage: Mapping[str, Json]) -> bytes:
        """Ask the core, then the loader, for each flow again: its graph may follow the baggage, or the time."""
        graph_id = self.replica.core.workflow(workflow)
        if graph_id is None:
            definition = load(self.loader, workflow, baggage)
            if definition is None:
                raise unknown_workflow(workflow)
            publish = partial(self.replica.publish, workflow, definition, is_lasting=False)
            graph_id = self.write(publish).result()
        return graph_id

    def graph_within(
        self, workflow: str, baggage: Mapping[str, Json]
    ) -> tuple[bytes, tuple[bytes, str, str] | None]:
        """Ask the core, then the loader."""
        graph_id = self.replica.core.workflow(workflow)
        if graph_id is not None:
            return graph_id, None
        definition = load(self.loader, workflow, baggage)
        if definition is None:
            raise unknown_workflow(workflow)
        graph_id = self.replica.learn(workflow, definition, is_lasting=False)
        return graph_id, (graph_id, workflow, definition.decode())

    def expect(self, connection: Connection) -> None:
        """Have the poller look at once, and soon again: the event comes just before the commit."""
        poller = self.replica.poller

        def committing(_: Connection) -> None:
            poller.expect()

        event.listen(connection, "commit", committing, once=True)

    def publish(self, workflow: str, definition: bytes) -> bytes:
        """Tell the core and the database, on the writer's thread."""
        return self.write(lambda: self.replica.publish(workflow, definition)).result()

    def check_input(self, graph_id: bytes, state: str) -> None:
        """Ask the core."""
        self.replica.core.check_input(graph_id, state)

    def submit(self, rows: Sequence[NewRow], *, is_run: bool) -> None:
        """Hand the flows to the core; they ride in the next batch."""
        self.replica.core.create(rows, watch_creation=not is_run, watch_stop=is_run)
        self.replica.writer.wake()

    def watch(self, flow_id: bytes) -> None:
        """Have the core report it."""
        self.replica.core.watch(flow_id)

    def unwatch(self, flow_id: bytes) -> None:
        """Forget what `watch` asked."""
        self.replica.core.unwatch(flow_id)

    def running(self, flow_id: bytes) -> list[int]:
        """Ask the core, which knows it of the flows that it owns."""
        return self.replica.core.running_steps(flow_id)

    def why(self, flow_id: bytes, limit: int) -> list[Any] | None:
        """Ask the core."""
        return self.replica.core.why(flow_id, limit, self.replica.store.now())

    def waiting(self, resource: str | None, limit: int) -> list[Any]:
        """Ask the core."""
        return self.replica.core.waiting(resource, limit, self.replica.store.now())

    def resources(self, now_ms: int) -> list[Any] | None:
        """Ask the core."""
        return self.replica.core.resources(now_ms)

    def write(self, fn: Callable[[], T]) -> Future[T]:
        """Call it on the writer's thread, between two batches."""
        return self.replica.writer.run(fn)

    def poke(self) -> None:
        """Have the poller look."""
        self.replica.poller.poke()

    def absence(self) -> str:
        """There is an engine: this one."""
        return ""


def unknown_workflow(workflow: str) -> NotFound:
    """The refusal of an engine whose app and loader have no such graph."""
    return NotFound(f"no workflow is called {workflow!r}; make it with app.graph({workflow!r})")


def load(loader: GraphLoader | None, workflow: str, baggage: Mapping[str, Json]) -> bytes | None:
    """Ask the host's loader for a definition; None when it has none."""
    graph = None if loader is None else loader.load(workflow, baggage)
    return None if graph is None else graph.definition()
