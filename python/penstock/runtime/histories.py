"""Brings whole journals to the core, for operations that go back in them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from penstock.errors import PenstockError
from penstock.store import Store

_log = logging.getLogger(__name__)


class Rememberer(Protocol):
    """What histories ask of the core."""

    def wanted_histories(self) -> Sequence[bytes]:
        """The flows whose mail waits for their journal."""

    def tell_history(self, row: Any, now_ms: int) -> None:
        """Take a flow with its whole journal, and go on with its mail."""


class Histories:
    """Reads what the core asks for. One thread, the poller's."""

    def __init__(self, store: Store, core: Rememberer) -> None:
        self._store = store
        self._core = core

    def run_once(self) -> int:
        """Read and hand over; how many journals that were."""
        wanted = self._core.wanted_histories()
        if not wanted:
            return 0
        rows = self._store.load(wanted, complete=True)
        for row in rows:
            try:
                self._core.tell_history(row, self._store.now())
            except PenstockError:
                # Its mail stays unanswered, and the flow goes on.
                _log.exception("The journal of flow …%s cannot be read.", row.flow_id.hex()[-8:])
        return len(rows)
