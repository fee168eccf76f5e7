"""What every replica does for all of them, and for its own books, every third of a lease."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from penstock.runtime.heartbeat import BEATS_PER_LEASE
from penstock.runtime.service import Service

if TYPE_CHECKING:
    from penstock.store import Store

_log = logging.getLogger(__name__)


class Holder(Protocol):
    """What housekeeping asks of the core."""

    def owned(self) -> list[bytes]:
        """The flows that it holds."""

    def drop_flow(self, flow_id: bytes) -> list[bytes]:
        """Forget one; the flows that must be loaded again because of it."""


class Housekeeping(Service):
    """Declares dead who is, releases what the dead owned, and compares this replica's books with the database's.

    A claim whose answer was lost leaves a flow that the database says is ours and that nobody here knows, and a
    release whose answer was lost the other way round. A flow may be on its way in or out while it is looked at, so
    only what differs in two looks in a row is mended.

    Args:
        store: The shard.
        core: Whose flows are compared.
        lease_ms: How long a lease lasts.
        load: Told which flows to load.
        on_released: Told that flows of the dead may be claimed.
        name_of: How a flow is named in a log.
    """

    def __init__(
        self,
        store: Store,
        core: Holder,
        lease_ms: int,
        load: Callable[[Iterable[bytes]], None],
        on_released: Callable[[], None],
        name_of: Callable[[bytes], str],
    ) -> None:
        super().__init__("penstock-housekeeping")
        self._store = store
        self._core = core
        self._lease_ms = lease_ms
        self._load = load
        self._on_released = on_released
        self._name_of = name_of
        # What differed at the last look; the service's thread alone.
        self._unknown: set[bytes] = set()
        self._foreign: set[bytes] = set()

    def run_once(self) -> float:
        """Look once and return the seconds until the next look."""
        for replica_id in self._store.declare_dead():
            _log.warning("Replica %d has not renewed its lease and was declared dead.", replica_id)
        self._release_dead()
        self._compare()
        return self._lease_ms / BEATS_PER_LEASE / 1000

    def _release_dead(self) -> None:
        released = 0
        while count := self._store.release_dead():
            released += count
        if released:
            _log.warning("%d flows of dead replicas were released.", released)
            self._on_released()

    def _compare(self) -> None:
        # Held first: what is claimed between the two reads is unknown for one look, never foreign.
        held = set(self._core.owned())
        owned = set(self._store.owned())
        unknown, foreign = owned - held, held - owned
        lost = unknown & self._unknown
        gone = foreign & self._foreign
        self._unknown, self._foreign = unknown - lost, foreign - gone
        if lost:
            _log.warning("%d flows are owned here and were not known; they are loaded.", len(lost))
            self._load(lost)
        for flow_id in gone:
            _log.warning("Flow %s is not owned here any more and is dropped.", self._name_of(flow_id))
            self._load(self._core.drop_flow(flow_id))
