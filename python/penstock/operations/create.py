"""Creating flows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock._core import JOURNAL_FORMAT, new_flow_id
from penstock.errors import EngineUnavailable, Invalid
from penstock.operations.beginning import beginning, first_of
from penstock.operations.context import Context, ended
from penstock.operations.operation import Operation, Until, settled
from penstock.operations.threads import thread_of
from penstock.options import FlowOptions, encode_object
from penstock.runtime.waiters import LOST_CREATION
from penstock.store.batch import Fenced
from penstock.store.rows import NewFlow

if TYPE_CHECKING:
    from penstock.outcome import Json

State = Mapping[str, "Json"]

# Options whose meaning needs operations of a later version; refused rather than half obeyed.
_LATER = ("delete_on_completion", "notify_on_stop")


def create(
    context: Context, workflow: str, state: State | None, options: Mapping[str, Any]
) -> Operation[str]:
    """Create a flow and return its key, once it is safe in the database."""
    asked = read_options(options)
    if asked.idempotency_key is not None or asked.thread is not None:
        return (yield from _create_once(context, workflow, state, asked))
    return (yield from create_many(context, workflow, [state], options))[0]


def create_many(
    context: Context, workflow: str, states: Sequence[State | None], options: Mapping[str, Any]
) -> Operation[list[str]]:
    """Create flows, all or none, and return their keys in order."""
    asked = read_options(options)
    if asked.idempotency_key is not None:
        raise Invalid(
            "create_many takes no idempotency_key, which names one flow: call create() for each state"
        )
    if asked.thread is not None:
        raise Invalid("create_many takes no thread, which has one next turn: call create() for each state")
    graph_id = resolve(context, workflow, asked)
    rows = [make_row(context, workflow, graph_id, state, asked) for state in states]
    if not rows:
        return []
    # They ride in one unit, so the last one's safety is everybody's.
    last = rows[-1][0]
    waiter = context.waiters.created.add(last)
    try:
        context.port.submit(rows, is_run=False)
        yield Until(waiter, None)
    finally:
        context.waiters.created.remove(last, waiter)
    if waiter.value is not None:
        raise refused(waiter.value)
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
        NotFound: Nobody knows it.
        Invalid: Its graph does not compile, or a task of the graph is known to no worker.
    """
    if not isinstance(workflow, str):
        raise Invalid(f"a workflow is named by a string, not {workflow!r}")
    return context.port.graph_of(workflow, asked.baggage)


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
        *first_of(asked, now),
    )


def unowned(
    row: Sequence[Any], idempotency_key: str | None = None, idempotency_hash: bytes | None = None
) -> NewFlow:
    """The rows of a flow that is left to whoever claims it, for a transaction of its own."""
    flow_id, workflow, graph_id, state = row[:4]
    band, place, tags, about, now = row[4:7], row[7:10], row[10], row[11:15], row[15]
    names = (flow_id, flow_id, None, None, workflow, graph_id)
    begin = beginning(flow_id, now, *row[16:18])
    flow = (*names, begin.status, *band, *place, tags, state, *about, None, now, None, None)
    live = (flow_id, None, 0, 0, *band, begin.ready_at, begin.wake_at, 0, None, graph_id, JOURNAL_FORMAT)
    return NewFlow(
        flow, live, begin.journal, idempotency_key=idempotency_key, idempotency_hash=idempotency_hash
    )


def _create_once(context: Context, workflow: str, state: State | None, asked: FlowOptions) -> Operation[str]:
    """Create a flow outside the group commit, because its key may name one already, or its turn may be taken."""
    thread_id = None if asked.thread is None else thread_of(context, asked.thread)
    graph_id = resolve(context, workflow, asked)
    row = make_row(context, workflow, graph_id, state, asked)
    context.port.check_input(graph_id, row[3])
    asked_hash = hashlib.sha256(json.dumps([workflow, row[3]]).encode()).digest()
    if thread_id is not None:
        row = (*row[:8], thread_id, *row[9:])
    new = unowned(row, asked.idempotency_key, asked_hash if asked.idempotency_key is not None else None)
    if thread_id is not None:
        new = replace(new, is_next_turn=True)
    made = yield from settled(context.port.write(lambda: context.store.create([new])))
    if isinstance(made, Fenced):
        raise ended("the flow was created")
    context.port.poke()
    return context.key_of(made[0].flow_id)


def refused(message: str) -> Exception:
    """What to raise for a flow that was not stored."""
    if message.startswith("the engine was shut down"):
        return ended("the flow was created; nothing of it was stored")
    if message == LOST_CREATION:
        return EngineUnavailable(message)
    return Invalid(f"the database refuses the flow: {message}; nothing was stored")
