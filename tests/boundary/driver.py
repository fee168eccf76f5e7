"""A core driven by hand: one worker that the test plays, and a database that takes every batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock import Graph
from penstock._core import Core, WorkerCodec, new_flow_id

if TYPE_CHECKING:
    from penstock._core import Batch, Report

NOW = 1_700_000_000_000
REPLICA = 7
WORKER = 1


class CoreDriver:
    """One core with a workflow for each graph it was made with."""

    def __init__(self, *graphs: Graph, **options: int) -> None:
        self.core = Core(REPLICA, 1, options)
        self.graphs = {graph.name: self.core.add_graph(graph.definition()) for graph in graphs}
        for name, graph_id in self.graphs.items():
            self.core.publish(name, graph_id)
        self.core.set_default_kind(False)
        self.core.worker_ready(WORKER)
        self._codec = WorkerCodec()

    def new_row(self, workflow: str, **fields: Any) -> tuple[Any, ...]:
        """What `Core.create` takes, with fields of the state given by name."""
        flow_id, graph_id = new_flow_id(NOW), self.graphs[workflow]
        band, place = (100, "", 1.0), (60_000, flow_id, 1)
        about = ('{"team":"a"}', '{"user":"b"}', None, None, False)
        return (flow_id, workflow, graph_id, json.dumps(fields), *band, *place, *about, NOW, False, None)

    def claimed_row(
        self,
        workflow: str,
        journal: Sequence[tuple[int, int, str, str, int, int, str]] = (),
        *,
        crashes: int = 0,
        parent: bytes | None = None,
    ) -> tuple[Any, ...]:
        """What `Core.load` takes: a flow that had an owner before."""
        flow_id, _, graph_id, state, *_ = self.new_row(workflow)
        tree = (workflow, parent or flow_id, parent, None if parent is None else 1, "running")
        about = (state, None, None, NOW, None, None, False)
        return (flow_id, 2, crashes, 0, graph_id, *tree, 100, "", 1.0, None, *about, list(journal))

    def create(self, workflow: str, **fields: Any) -> bytes:
        row = self.new_row(workflow, **fields)
        self.core.create([row], watch_creation=True, watch_stop=True)
        flow_id: bytes = row[0]
        return flow_id

    def take(self) -> Batch:
        batch = self.core.take_batch()
        assert batch is not None
        return batch

    def commit(self) -> tuple[Batch, Report]:
        """Commit what waits; the batch is another one of the same rows, because the first is used up."""
        batch = self.take()
        rows = batch.without(set())
        return rows, self.core.committed(batch, [], NOW)

    def steps(self) -> list[tuple[Any, ...]]:
        """The steps that the worker gets now."""
        found: list[tuple[Any, ...]] = []
        for worker, data in self.core.frames(NOW):
            assert worker == WORKER
            found += [message for message in self._codec.feed(data) if message[0] == WorkerCodec.STEP]
        return found

    def answer(self, dispatch: int, outcome: int, *, changes: str = "", meta: str = "") -> None:
        data = WorkerCodec.results([(dispatch, outcome, 1_500, changes, meta)])
        assert self.core.receive(WORKER, data, NOW)
