"""Whether a flow has come to a node, read from its journal bit by bit."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING

from penstock._core import nodes_reached
from penstock.errors import Invalid, NotFound
from penstock.operations.context import unknown_flow
from penstock.store.journal import SNAPSHOT

if TYPE_CHECKING:
    from penstock.operations.context import Context


class Arrival:
    """One flow and one node of its graph.

    Raises:
        NotFound: No such flow.
        Invalid: Its graph has no such node.
    """

    def __init__(self, context: Context, key: str, node: str) -> None:
        self.flow_id = context.flow_id(key)
        self.node = node
        self._store = context.store
        self._read = 0
        row = self._store.outcome(self.flow_id)
        if row is None:
            raise unknown_flow(key)
        definition = self._store.graph(row.graph_id)
        if definition is None:
            raise NotFound(f"the graph of flow {key} is not in the database; restore the table of graphs")
        graph = json.loads(definition)
        nodes = [named["name"] for named in graph["nodes"]]
        if node not in nodes:
            near = difflib.get_close_matches(str(node), nodes, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its nodes are {nodes[:20]}"
            raise Invalid(f"workflow {row.workflow!r} has no node {node!r}: {hint}")
        self._has_come: bool = node == graph["entry"]

    def has_come(self) -> bool:
        """Read what is new, and tell whether a step of the node was made."""
        if not self._has_come:
            rows = self._store.journal(self.flow_id, self._read)
            self._read = rows[-1].ord if rows else self._read
            # A later snapshot tells nothing that the events before it have not told.
            told = [(row.event, row.body) for row in rows if row.ord == 1 or row.event != SNAPSHOT]
            self._has_come = self.node in nodes_reached(told)
        return self._has_come
