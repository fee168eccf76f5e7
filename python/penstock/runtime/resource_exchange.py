"""Tells other replicas, and the next life of this one, what is known of resources, and hears it from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Protocol

from penstock.errors import CorruptJournal, EngineUnavailable
from penstock.runtime.heartbeat import BEATS_PER_LEASE

if TYPE_CHECKING:
    from penstock.runtime.writer import Writer
    from penstock.store import Store

_log = logging.getLogger(__name__)

#: Between two writes: a resource in trouble changes with every probe and every refusal.
TELL_EVERY_MS = 1_000
_LAST_WORD_S = 2.0


class Knower(Protocol):
    """What the exchange asks of the core."""

    def take_resource_changes(self) -> list[tuple[str, str]]:
        """What has changed since the last call, by name."""

    def learn_resources(self, rows: Sequence[tuple[str, str]], now_ms: int) -> None:
        """What others know."""


class ResourceExchange:
    """Writes on the writer's thread, between batches. One thread, the poller's; `learn` and `flush` while it stands.

    Args:
        store: The shard.
        core: Knows and learns.
        writer: Where it is written.
        lease_ms: A third of it lies between two readings.
        on_learnt: Told when others knew something new.
    """

    def __init__(
        self, store: Store, core: Knower, writer: Writer, lease_ms: int, on_learnt: Callable[[], None]
    ) -> None:
        self._store = store
        self._core = core
        self._writer = writer
        self._every_ms = lease_ms // BEATS_PER_LEASE
        self._on_learnt = on_learnt
        self._seen: dict[str, str] = {}
        self._untold: dict[str, str] = {}
        self._telling: tuple[dict[str, str], Future[None]] | None = None
        self._next_tell = 0
        self._next_learn = 0

    def tick(self, now: int) -> None:
        """Tell and learn what is due."""
        if now >= self._next_tell and self._has_told():
            self._next_tell = now + TELL_EVERY_MS
            self._tell()
        if now >= self._next_learn:
            self.learn()

    def learn(self) -> None:
        """Read what others have told and give the core what is new."""
        now = self._store.now()
        self._next_learn = now + self._every_ms
        rows = self._store.resources()
        new = [(name, state) for name, state in rows if self._seen.get(name) != state]
        if not new:
            return
        self._seen.update(new)
        try:
            self._core.learn_resources(new, now)
        except CorruptJournal as error:
            _log.warning("Of what is stored of resources something cannot be read: %s", error)
        self._on_learnt()

    def flush(self) -> None:
        """Tell the last changes; those that cannot be told are lost with this engine."""
        self._has_told()
        self._tell()
        if self._telling is not None:
            try:
                self._telling[1].result(_LAST_WORD_S)
            except (EngineUnavailable, TimeoutError):
                _log.warning("What is known of resources could not be written.")

    def _tell(self) -> None:
        self._untold.update(self._core.take_resource_changes())
        if self._untold:
            states, self._untold = self._untold, {}
            self._telling = states, self._writer.run(partial(self._store.write_resources, states))

    def _has_told(self) -> bool:
        """Whether nothing is being told; what was not heard is told again."""
        if self._telling is None:
            return True
        states, told = self._telling
        if not told.done():
            return False
        self._telling = None
        error = told.exception()
        if error is not None:
            self._untold = states | self._untold
            if not isinstance(error, EngineUnavailable):
                _log.error("What is known of resources could not be written.", exc_info=error)
        return True
