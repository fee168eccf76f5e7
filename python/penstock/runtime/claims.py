"""Takes flows that nobody owns, up to the core's room."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from penstock.runtime.correlation import without_keys
from penstock.runtime.inbox import Inbox
from penstock.runtime.writer import Writer
from penstock.store import Outage, Store
from penstock.store.batch import Fenced
from penstock.store.rows import Claimed

_log = logging.getLogger(__name__)


class Owner(Protocol):
    """What claims ask of the core."""

    def room(self) -> int:
        """How many more flows it wants to own."""

    def knows_graph(self, graph_id: bytes) -> bool:
        """Whether the graph is in memory."""

    def load(self, rows: list[Any], now_ms: int) -> list[tuple[bytes, str]]:
        """Take flows in by `LoadRow`; returns those that it could not replay, and why."""


class Claims:
    """Claims flows on the writer's thread, then loads them with their mail. One thread, the poller's.

    Args:
        store: The shard.
        core: Takes the flows in.
        writer: Where the claim is written.
        inbox: Delivers the mail of what was loaded.
        admit: Given the id and definition of a graph that was not met before: makes it known to the core and says
            whether this engine has all its tasks. Asked once for each graph that the core keeps in mind.
        on_fenced: Told that this replica was declared dead.
        name_of: How a flow is named in a log.
    """

    def __init__(
        self,
        store: Store,
        core: Owner,
        writer: Writer,
        inbox: Inbox,
        admit: Callable[[bytes, str], bool],
        on_fenced: Callable[[Fenced], None],
        name_of: Callable[[bytes], str] = lambda flow_id: flow_id[:6].hex(),
    ) -> None:
        self._store = store
        self._core = core
        self._writer = writer
        self._inbox = inbox
        self._admit = admit
        self._on_fenced = on_fenced
        self._name_of = name_of
        self._runnable: set[bytes] = set()
        self._foreign: set[bytes] = set()
        # Put in by any thread, taken out by the poller's.
        self._reloads: SimpleQueue[bytes] = SimpleQueue()

    def run_once(self) -> int:
        """Claim once and return how many flows came in; their work is in the core then."""
        room = max(self._core.room(), 0)
        claimed = self._writer.run(
            partial(self._store.claim, room, exclude=frozenset(self._foreign))
        ).result()
        if isinstance(claimed, Fenced):
            self._on_fenced(claimed)
            return 0
        try:
            return self._take_in(claimed)
        except Outage:
            # They are owned here: they are loaded as soon as the database answers.
            self.reload(claim.flow_id for claim in claimed)
            raise

    def reload(self, flow_ids: Iterable[bytes]) -> None:
        """Have owned flows read again at the next look, because the core rolled them back. Any thread."""
        for flow_id in flow_ids:
            self._reloads.put(flow_id)

    def load_again(self) -> int:
        """Load what `reload` named as far as it is owned here still, and return how many flows that were."""
        flow_ids = self._take_reloads()
        if not flow_ids:
            return 0
        try:
            owned = self._store.owned()
            rows = self._store.load([flow_id for flow_id in flow_ids if flow_id in owned])
            return self._take_in(
                [
                    Claimed(row.flow_id, row.claims, row.graph_id)
                    for row in rows
                    if row.claims == owned[row.flow_id]
                ]
            )
        except Outage:
            self.reload(flow_ids)
            raise

    def forget(self) -> None:
        """Take no flow for ours any more: this replica registers anew. The poller's thread."""
        self._take_reloads()

    def load(self, flow_ids: Sequence[bytes]) -> None:
        """Bring owned flows into the core, with their mail."""
        if not flow_ids:
            return
        rows = self._store.load(flow_ids)
        broken = dict(self._core.load(list(rows), self._store.now()))
        for flow_id, reason in broken.items():
            # It stays owned, so that nobody trips over it again; a restart tries once more.
            _log.error(
                "Flow %s cannot be replayed and stays as it is: %s",
                self._name_of(flow_id),
                without_keys(reason),
            )
        self._inbox.open([row.flow_id for row in rows if row.mail and row.flow_id not in broken])

    def _take_in(self, claims: Sequence[Claimed]) -> int:
        mine = [claim for claim in claims if self._can_run(claim.graph_id)]
        if len(mine) < len(claims):
            self._give_back([claim for claim in claims if claim.graph_id in self._foreign])
        self.load([claim.flow_id for claim in mine])
        return len(mine)

    def _take_reloads(self) -> list[bytes]:
        flow_ids = []
        while not self._reloads.empty():
            flow_ids.append(self._reloads.get())
        return flow_ids

    def _can_run(self, graph_id: bytes) -> bool:
        is_forgotten = graph_id in self._runnable and not self._core.knows_graph(graph_id)
        if is_forgotten or (graph_id not in self._runnable and graph_id not in self._foreign):
            definition = self._store.graph(graph_id)
            is_mine = definition is not None and self._admit(graph_id, definition)
            (self._runnable if is_mine else self._foreign).add(graph_id)
            if not is_mine:
                _log.warning("Flows of graph %s wait: this engine lacks tasks of it.", graph_id.hex()[:12])
        return graph_id in self._runnable

    def _give_back(self, claims: Sequence[Claimed]) -> None:
        self._writer.run(partial(self._store.give_back, claims)).result()
