"""Whether a replica may declare others dead."""

import threading


class Standing:
    """Since when a replica has renewed its own lease without a gap.

    After an outage all leases have lapsed together: whoever comes back first must not take the others for dead. So a
    replica declares only after it has itself held its lease for one whole lease time. Any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._since_ms = 0
        self._until_ms = 0
        self._lease_ms = 0

    def renewed(self, at_ms: int, lease_ms: int) -> None:
        """The lease was renewed; *at_ms* is from before the renewal was asked for, by a clock that never goes back."""
        with self._lock:
            if at_ms >= self._until_ms:
                self._since_ms = at_ms
            self._until_ms = at_ms + lease_ms
            self._lease_ms = lease_ms

    def lost(self) -> None:
        """The lease is no more: this replica was declared dead, left, or registers anew."""
        with self._lock:
            self._until_ms = 0

    def is_late(self, at_ms: int) -> bool:
        """Whether less than a third of the lease is left, so that somebody else than the heartbeat should renew it."""
        with self._lock:
            return self._until_ms > 0 and at_ms > self._until_ms - self._lease_ms // 3

    @property
    def lease_ms(self) -> int:
        """The lease time of the last renewal."""
        with self._lock:
            return self._lease_ms

    def may_declare(self, at_ms: int) -> bool:
        """Whether the lease holds now and has been held without a gap for one whole lease time."""
        with self._lock:
            return at_ms < self._until_ms and at_ms - self._since_ms >= self._lease_ms
