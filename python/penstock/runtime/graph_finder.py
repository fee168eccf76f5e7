"""The thread that asks the host for the graphs of children: the host may take its time, and nothing waits for it but they."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.encoding import decode
from penstock.errors import EngineUnavailable
from penstock.runtime.service import Service

if TYPE_CHECKING:
    from penstock.runtime.replica import Replica

FindGraph = Callable[[str, Mapping[str, Any]], bytes | None]
"""Gives the definition of a workflow's graph, by the workflow's name and the flow's baggage; None for none."""
_Wanted = tuple[bytes, int, bytes, str, str | None]

_log = logging.getLogger(__name__)


class GraphFinder(Service):
    """Answers the core's questions for graphs, one after another. Woken after every commit."""

    def __init__(self, replica: Replica, find: FindGraph) -> None:
        super().__init__("penstock-graphs")
        self._replica = replica
        self._find = find
        self._wanted: deque[_Wanted] = deque()
        replica.core.ask_for_graphs()

    def run_once(self) -> None:
        """Answer all that is asked. An outage of the database leaves the rest for the next time."""
        replica = self._replica
        self._wanted.extend(replica.core.take_wanted())
        while self._wanted and not self._stop_asked.is_set():
            wanted = self._wanted[0]
            graph_id, failure = self._answer(wanted)
            self._wanted.popleft()
            if replica.core.found_graph(wanted, graph_id, failure, replica.store.now()):
                replica.writer.wake()
                replica.loop.kick()

    def _answer(self, wanted: _Wanted) -> tuple[bytes | None, tuple[str, str] | None]:
        workflow, baggage = wanted[3], wanted[4]
        try:
            definition = self._find(workflow, decode(baggage) if baggage else {})
            if definition is None:
                return None, ("not_found", f"no workflow is called {workflow!r}, and the loader knows none")
            publish = partial(self._replica.publish, workflow, definition, is_lasting=False)
            return self._replica.writer.run(publish).result(), None
        except EngineUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  # whatever the host raises is the call's failure
            _log.warning("No graph was found for workflow %r.", workflow, exc_info=True)
            code = getattr(error, "code", None)
            text = f"the graph of workflow {workflow!r} was not found: {error}"
            return None, (code if isinstance(code, str) else "error", text)
