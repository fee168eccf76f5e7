"""What every operation works with: the shard's store, the waits, and the way to the shard."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock._core import flow_key, parse_flow_key, parse_step_key
from penstock.errors import EngineUnavailable, NotFound

if TYPE_CHECKING:
    from penstock.operations.port import Port
    from penstock.runtime.waiters import Waiters
    from penstock.store import Store

#: Seconds that a writing operation waits for its verdict.
VERDICT_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Context:
    """Made at the start of an engine or a client, dropped at its end; its members serve any thread."""

    shard: int
    store: Store
    waiters: Waiters
    port: Port
    default_priority: int
    time_budget_ms: int | None
    """What an attempt may take where nobody says more; None leaves it to the engine that runs the flow."""
    url: str = ""
    """The database's address, as it may be shown."""
    owner_name: str | None = None
    """The label of the engine that is asked."""
    task_graphs: dict[str, bytes] = field(default_factory=dict)
    """Graphs of `run_task`, by task. Written by any thread, each entry once and always to the same value."""

    definitions: dict[bytes, str] = field(default_factory=dict)
    """Definitions of graphs that were read. Written by any thread, each entry once and always to the same value."""

    def definition(self, graph_id: bytes) -> str | None:
        """The definition of a graph, from the database the first time."""
        found = self.definitions.get(graph_id)
        if found is None:
            found = self.store.graph(graph_id)
            if found is not None:
                self.definitions[graph_id] = found
        return found

    def key_of(self, flow_id: bytes) -> str:
        """The key of a flow of this shard."""
        return flow_key(self.shard, flow_id)

    def flow_id(self, key: str) -> bytes:
        """The flow that a key names, whether or not it exists.

        Raises:
            NotFound: The key is malformed or belongs to no shard of this engine.
        """
        try:
            shard, flow_id = parse_flow_key(_text(key))
        except NotFound:
            raise unknown_flow(key) from None
        if shard != self.shard:
            raise unknown_flow(key)
        return flow_id

    def step_id(self, key: str) -> tuple[bytes, int]:
        """The flow and the number of the step that a step key names.

        Raises:
            NotFound: As `flow_id`.
        """
        try:
            shard, flow_id, number = parse_step_key(_text(key))
        except NotFound:
            raise unknown_step(key) from None
        if shard != self.shard:
            raise unknown_step(key)
        return flow_id, number


def _text(key: object) -> str:
    if not isinstance(key, str):
        raise unknown_flow(key)
    return key


def unknown_flow(key: object) -> NotFound:
    """The refusal of a key that names nothing, the same whatever is wrong with it."""
    return NotFound(f"no flow has the key {key!r}; pass the key that create() returned")


def unknown_step(step_key: str) -> NotFound:
    """The refusal of a step key that names nothing, the same whatever is wrong with it."""
    return NotFound(f"no step has the key {step_key!r}; step keys stand in history()")


class Deadline:
    """How much of a timeout is left."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds left, 0 when it has passed, None for ever."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)


def ended(what: str) -> EngineUnavailable:
    """The refusal of an operation that the engine's end cut short."""
    return EngineUnavailable(
        f"the engine was shut down while {what}; the flow goes on when one is started again"
    )
