"""Delivers what the outbox holds, at least once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from penstock.runtime.service import Service

if TYPE_CHECKING:
    from penstock.runtime.writer import Writer
    from penstock.store import Store
    from penstock.store.rows import Notice

_log = logging.getLogger(__name__)

#: The core's name for the stop of a flow.
FLOW_STOPPED = "flow_stopped"

_AT_ONCE = 16
_LONGEST_WAIT_S = 1.0
_FIRST_REST_MS = 250
_LONGEST_REST_MS = 60_000


class Notices(Service):
    """Takes rows of the outbox, calls the host, and removes what was delivered.

    One after the other, on a thread of its own. A row is removed when the call has returned; it is put off, longer
    each time, when the call raised; and it is taken by another engine when this one died meanwhile.

    Args:
        store: The shard.
        writer: Where the store is written.
        deliver: Tells the host.
    """

    def __init__(self, store: Store, writer: Writer, deliver: Callable[[Notice], None]) -> None:
        super().__init__("penstock-notices")
        self._store = store
        self._writer = writer
        self._deliver = deliver
        # Delivered, and not removed because the database was away; the service's thread alone.
        self._delivered: set[int] = set()

    def run_once(self) -> float:
        """Deliver what is due and return the seconds until the next look."""
        for seq in list(self._delivered):
            self._remove(seq)
        taken: list[Notice] = []
        if self._store.next_notice(FLOW_STOPPED) is not None:
            take = partial(self._store.take_notices, FLOW_STOPPED, frozenset(self._delivered), _AT_ONCE)
            taken = self._writer.run(take).result()
        for notice in taken:
            if self.is_stopping:
                # The rest is others' as soon as this replica has left.
                return 0
            self._tell(notice)
        return 0 if len(taken) == _AT_ONCE else self._until_due()

    def _tell(self, notice: Notice) -> None:
        try:
            self._deliver(notice)
        except Exception:  # noqa: BLE001  # whatever the host's function raises, the notice is told again
            rest = min(_FIRST_REST_MS * 2 ** min(notice.attempts - 1, 20), _LONGEST_REST_MS)
            _log.exception("A stop was not taken; told again in %.2f s.", rest / 1000)
            due_at = self._store.now() + rest
            self._writer.run(partial(self._store.put_notice_off, notice.seq, due_at)).result()
        else:
            self._delivered.add(notice.seq)
            self._remove(notice.seq)

    def _remove(self, seq: int) -> None:
        self._writer.run(partial(self._store.notice_delivered, seq)).result()
        self._delivered.discard(seq)

    def _until_due(self) -> float:
        due_at = self._store.next_notice(FLOW_STOPPED)
        now = self._store.now()
        # What is due and was not taken is being delivered by somebody else.
        if due_at is None or due_at <= now:
            return _LONGEST_WAIT_S
        return min((due_at - now) / 1000, _LONGEST_WAIT_S)
