"""What a host may plug in. Objects given for these stay in the engine's process, off its loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from penstock.flow import Flow
    from penstock.graph import Graph
    from penstock.outcome import Outcome


@runtime_checkable
class GraphLoader(Protocol):
    """Finds graphs that no app holds."""

    def load(self, workflow: str, baggage: Mapping[str, Any]) -> Graph | None:
        """Give the graph a new flow is to run, or None for an unknown workflow.

        Called once a flow, at its creation or its start as a child; the flow keeps that graph for life.
        """
        ...


@runtime_checkable
class TaskExecutor(Protocol):
    """Runs tasks elsewhere: over RPC, a bus, on a cluster."""

    def execute(
        self, task: str, flow: Flow
    ) -> Mapping[str, Any] | Awaitable[Mapping[str, Any] | None] | None:
        """Run a task and give what it returns; may be an `async def`.

        Called in the engine's process, several at a time. Errors of `penstock.errors` classify a failure.
        """
        ...


FlowStopped = Callable[["Outcome", str], "Awaitable[None] | None"]
"""Called in an engine's process with the outcome and the `notify_on_stop` address of a flow that stopped, at
least once."""


@runtime_checkable
class PeerNotifier(Protocol):
    """Carries hints between the engines of a database. A lost one costs time, never a flow."""

    def publish(self, hint: bytes) -> None:
        """Send a hint, at most 200 bytes, to the peers; neither waits nor raises."""
        ...

    def subscribe(self, callback: Callable[[bytes], None]) -> None:
        """Call back with every hint of a peer, from any thread."""
        ...
