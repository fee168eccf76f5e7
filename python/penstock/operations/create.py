"""Creating flows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock._core import JOURNAL_FORMAT, new_flow_id
from penstock.errors import Invalid, NotFound
from penstock.operations.context import Context, ended
from penstock.options import FlowOptions, encode_object
from penstock.store.batch import Fenced, Row
from penstock.store.rows import NewFlow

if TYPE_CHECKING:
    from penstock.outcome import Json

State = Mapping[str, "Json"]

# Options whose meaning needs operations of a later version; refused rather than half obeyed.
_LATER = ("thread", "start_at", "delete_on_completion", "notify_on_stop", "hold")


def create(context: Context, workflow: str, state: State | None, options: Mapping[str, Any]) -> str:
    """Create a flow and return its key, once it is safe in the database."""
    asked = read_options(options)
    if asked.idempotency_key is not None:
        return _create_once(context, workflow, state, asked)
    return create_many(context, workflow, [state], options)[0]


def create_many(
    context: Context, workflow: str, states: Sequence[State | None], options: Mapping[str, Any]
) -> list[str]:
    """Create flows, all or none, and return their keys in order."""
    asked = read_options(options)
    if asked.idempotency_key is not None:
        raise Invalid(
            "create_many takes no idempotency_key, which names one flow: call create() for each state"
        )
    graph_id = resolve(context, workflow, asked)
    rows = [make_row(context, workflow, graph_id, state, asked) for state in states]
    if not rows:
        return []
    # They ride in one unit, so the last one's safety is everybody's.
    waiter = context.waiters.created.add(rows[-1][0])
    context.core.create(rows, watch_creation=True, watch_stop=False)
    context.writer.wake()
    waiter.wait(None)
    if waiter.value is not None:
        raise _refused(waiter.value)
    return [context.key_of(row[0]) for row in rows]


def read_options(options: Mapping[str, Any]) -> FlowOptions:
    """Check the options of a creation.

    Raises:
        Invalid: One is unknown, has a bad value, or is not obeyed by this version.
    """
    asked = FlowOptions.read(options)
    untouched = FlowOptions()
    for name in _LATER:
        if getattr(asked, name) != getattr(untouched, name):
            raise Invalid(f"the option {name!r} is not supported by this version; leave it out")
    return asked


def resolve(context: Context, workflow: str, asked: FlowOptions) -> bytes:
    """Find the graph that a workflow means now.

    Raises:
        NotFound: Neither the app nor the loader knows it.
        Invalid: The loader's graph does not compile, or a task of the graph is known to no worker.
    """
    if not isinstance(workflow, str):
        raise Invalid(f"a workflow is named by a string, not {workflow!r}")
    graph_id = context.core.workflow(workflow)
    if graph_id is None and context.loader is not None:
        graph = context.loader.load(workflow, asked.baggage)
        if graph is not None:
            graph_id = context.publish(workflow, graph.definition())
    if graph_id is None:
        raise NotFound(f"no workflow is called {workflow!r}; make it with app.graph({workflow!r})")
    return graph_id


def make_row(
    context: Context, workflow: str, graph_id: bytes, state: State | None, asked: FlowOptions
) -> tuple[Any, ...]:
    """What the core asks of a new flow."""
    now = context.store.now()
    flow_id = new_flow_id(now)
    priority = context.default_priority if asked.priority is None else asked.priority
    budget = asked.time_budget_ms or context.time_budget_ms
    tags = asked.tags_json.decode() if asked.tags else None
    baggage = asked.baggage_json.decode() if asked.baggage else None
    return (
        flow_id,
        workflow,
        graph_id,
        encode_object({} if state is None else state, "state").decode(),
        priority,
        asked.fairness_key,
        float(asked.fairness_weight),
        budget,
        flow_id,
        1,
        tags,
        baggage,
        None,
        None,
        False,
        now,
    )


def _create_once(context: Context, workflow: str, state: State | None, asked: FlowOptions) -> str:
    """Create a flow outside the group commit, because its key may name one already."""
    graph_id = resolve(context, workflow, asked)
    row = make_row(context, workflow, graph_id, state, asked)
    context.core.check_input(graph_id, row[3])
    flow, live = _unowned(row)
    asked_hash = hashlib.sha256(json.dumps([workflow, row[3]]).encode()).digest()
    new = NewFlow(flow, live, idempotency_key=asked.idempotency_key, idempotency_hash=asked_hash)
    made = context.writer.run(lambda: context.store.create([new])).result()
    if isinstance(made, Fenced):
        raise ended("the flow was created")
    context.poke()
    return context.key_of(made[0].flow_id)


def _unowned(row: tuple[Any, ...]) -> tuple[Row, Row]:
    """Give the `flows` row and the `live` row of a new flow that is left to whoever claims it."""
    flow_id, workflow, graph_id, state = row[:4]
    band, place, tags, about, now = row[4:7], row[7:10], row[10], row[11:15], row[15]
    names = (flow_id, flow_id, None, None, workflow, graph_id)
    flow = (*names, "running", *band, *place, tags, state, *about, None, now, None, None)
    live = (flow_id, None, 0, 0, *band, now, None, 0, None, graph_id, JOURNAL_FORMAT)
    return flow, live


def _refused(message: str) -> Exception:
    if message.startswith("the engine was shut down"):
        return ended("the flow was created; nothing of it was stored")
    return Invalid(f"the database refuses the flow: {message}; nothing was stored")
