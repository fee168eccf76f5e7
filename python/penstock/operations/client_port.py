"""How a client reaches a shard: through its database alone. It owns no flow, holds no lease and takes no lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from penstock._core import check_input, compile_graph
from penstock.errors import Invalid, NotFound
from penstock.operations.beginning import unowned
from penstock.operations.port import NewRow, load
from penstock.store import RefusedRow

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from penstock.host import GraphLoader
    from penstock.outcome import Json
    from penstock.runtime.waiters import Waiters
    from penstock.runtime.watcher import Watcher
    from penstock.store import Store

T = TypeVar("T")


class ClientPort:
    """A `Port` without an engine: its flows are created unowned and ready, for any engine to claim."""

    def __init__(self, store: Store, waiters: Waiters, watcher: Watcher, loader: GraphLoader | None) -> None:
        self._store = store
        self._waiters = waiters
        self._watcher = watcher
        self._loader = loader
        self._writing = threading.Lock()
        # Written by any thread, each entry once and, but for loaded ones, to the same value; graphs by workflow, definitions by graph.
        self._published: dict[str, bytes] = {}
        # Workflows that the loader gave; it is asked for each flow. Added to by any thread.
        self._loaded: set[str] = set()
        self._definitions: dict[bytes, bytes] = {}

    def graph_of(self, workflow: str, baggage: Mapping[str, Json]) -> bytes:
        """Take what was published from here, then the loader's, then what an engine published last."""
        graph_id, definition = self._find(workflow, baggage)
        return graph_id if definition is None else self.publish(workflow, definition)

    def graph_within(
        self, workflow: str, baggage: Mapping[str, Json]
    ) -> tuple[bytes, tuple[bytes, str, str] | None]:
        """As `graph_of`, without publishing."""
        graph_id, definition = self._find(workflow, baggage)
        if definition is None:
            return graph_id, None
        graph_id, canonical, _ = compile_graph(definition)
        self._definitions[graph_id] = canonical
        return graph_id, (graph_id, workflow, canonical.decode())

    def expect(self, connection: Connection) -> None:
        """Nothing: the engines look by themselves."""

    def publish(self, workflow: str, definition: bytes) -> bytes:
        """Check the definition and store it for everybody."""
        graph_id, canonical, _ = compile_graph(definition)
        self.write(lambda: self._store.publish(graph_id, workflow, canonical.decode())).result()
        self._definitions[graph_id] = canonical
        self._published[workflow] = graph_id
        return graph_id

    def _find(self, workflow: str, baggage: Mapping[str, Json]) -> tuple[bytes, bytes | None]:
        """The id of a graph that is published, or the loader's definition."""
        graph_id = None if workflow in self._loaded else self._published.get(workflow)
        if graph_id is not None:
            return graph_id, None
        definition = load(self._loader, workflow, baggage)
        if definition is not None:
            self._loaded.add(workflow)
            return b"", definition
        newest = self._store.newest_graph(workflow)
        if newest is None:
            raise NotFound(
                f"no workflow called {workflow!r} is known here, and no engine has published one; "
                "start an engine whose app has it, or give the client an app"
            )
        self._definitions[newest[0]] = newest[1].encode()
        return newest[0], None

    def check_input(self, graph_id: bytes, state: str) -> None:
        """Check it against the definition."""
        check_input(self._definitions[graph_id], [state])

    def submit(self, rows: Sequence[NewRow], *, is_run: bool) -> None:
        """Insert the flows in one transaction, in the caller's thread."""
        graph_id = rows[0][2]
        check_input(self._definitions[graph_id], [row[3] for row in rows])
        try:
            self.write(lambda: self._store.create([unowned(row) for row in rows])).result()
        except RefusedRow as refusal:
            raise Invalid(f"the database refuses the flow: {refusal}; nothing was stored") from refusal
        if is_run:
            self.poke()
        else:
            self._waiters.created.announce(rows[-1][0], None)

    def watch(self, flow_id: bytes) -> None:
        """Look at everything that is waited for, this flow included."""
        del flow_id
        self.poke()

    def unwatch(self, flow_id: bytes) -> None:
        """Nothing: what nobody waits for is not looked at."""

    def running(self, flow_id: bytes) -> list[int]:
        """None: only the owner knows."""
        del flow_id
        return []

    def why(self, flow_id: bytes, limit: int) -> None:
        """Nothing: only the owner knows."""
        del flow_id, limit

    def waiting(self, resource: str | None, limit: int) -> list[Any]:
        """None: nothing is ready here."""
        del resource, limit
        return []

    def resources(self, now_ms: int) -> None:
        """Nothing: no task runs here."""
        del now_ms

    def write(self, fn: Callable[[], T]) -> Future[T]:
        """Call it in this thread, one at a time."""
        done: Future[T] = Future()
        with self._writing:
            try:
                done.set_result(fn())
            except BaseException as error:  # noqa: BLE001  # the caller gets whatever it is
                done.set_exception(error)
        return done

    def poke(self) -> None:
        """Have the watcher look."""
        self._watcher.poke()

    def absence(self) -> str:
        """Ask the database whether an engine is alive."""
        if self._store.has_living_replica():
            return ""
        return "; no engine is alive on this database: start one"
