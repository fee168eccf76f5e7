"""Running one task as a flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from penstock.errors import Invalid
from penstock.graph import Graph
from penstock.operations.context import Context
from penstock.operations.create import State
from penstock.operations.operation import Operation
from penstock.operations.wait import run
from penstock.options import Duration

if TYPE_CHECKING:
    from penstock.outcome import Outcome


def run_task(
    context: Context,
    task: str | Callable[..., Any],
    state: State | None,
    timeout: Duration | None,
    options: Mapping[str, Any],
) -> Operation[Outcome]:
    """Run a flow whose graph is one node, and wait for it. Its workflow is called `task:NAME`."""
    name = task if isinstance(task, str) else getattr(task, "__penstock_task__", None)
    if not isinstance(name, str):
        raise Invalid(f"{task!r} is no task: pass a name, or a function that @app.task decorates")
    workflow = f"task:{name}"
    if name not in context.task_graphs:
        graph = Graph(workflow).node(name, name).entry(name)
        context.task_graphs[name] = context.port.publish(workflow, graph.definition())
    return (yield from run(context, workflow, state, timeout, options))
