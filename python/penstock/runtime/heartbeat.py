"""Renews the lease of this replica, so that no other takes it for dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.runtime.service import Service
from penstock.store.batch import Fenced

if TYPE_CHECKING:
    from penstock.store import Store

#: Beats in a lease: two may be missed.
BEATS_PER_LEASE = 3


class Heartbeat(Service):
    """One renewal every third of a lease, on a thread and a connection that nothing else uses.

    Args:
        store: Renews.
        lease_ms: How long a renewal lasts.
        on_fenced: Told that this replica was declared dead, at every beat until it has registered anew.
    """

    def __init__(self, store: Store, lease_ms: int, on_fenced: Callable[[Fenced], None]) -> None:
        super().__init__("penstock-heartbeat")
        self._store = store
        self._lease_ms = lease_ms
        self._on_fenced = on_fenced

    def run_once(self) -> float:
        """Renew once and return the seconds until the next beat."""
        replica_id = self._store.replica_id
        if not self._store.renew_lease(self._lease_ms):
            self._on_fenced(Fenced(replica_id))
        return self._lease_ms / BEATS_PER_LEASE / 1000
