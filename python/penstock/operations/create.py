"""Creating flows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy.engine import Connection

from penstock._core import new_flow_id
from penstock.errors import Conflict, EngineUnavailable, Invalid
from penstock.operations.beginning import first_of, unowned
from penstock.operations.context import Context, ended
from penstock.operations.operation import Operation, Until, settled
from penstock.operations.port import NewRow
from penstock.operations.threads import thread_of
from penstock.options import FlowOptions, encode_object
from penstock.runtime.waiters import LOST_CREATION
from penstock.store import KeyTaken
from penstock.store.batch import Fenced
from penstock.store.rows import Created, NewFlow

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from penstock.outcome import Json

State = Mapping[str, "Json"]
HostConnection: TypeAlias = "Connection | AsyncConnection"
Made = TypeVar("Made", bound="list[Created] | Fenced")

#: All states of one `create_many` travel in one transaction, and are in memory with it.
MAX_STATES = 100_000

# Options whose meaning needs operations of a later version; refused rather than half obeyed.


def create(
    context: Context,
    workflow: str,
    state: State | None,
    connection: HostConnection | None,
    options: Mapping[str, Any],
) -> Operation[str]:
    """Create a flow and return its key, once it is safe in the database."""
    asked = read_options(options)
    if connection is not None:
        return store_within(context, prepare_within(context, workflow, [state], asked), connection)[0]
    if asked.idempotency_key is not None or asked.business_key is not None or asked.thread is not None:
        return (yield from _create_keyed(context, workflow, state, asked))
    return (yield from create_many(context, workflow, [state], None, options))[0]


def create_many(
    context: Context,
    workflow: str,
    states: Sequence[State | None],
    connection: HostConnection | None,
    options: Mapping[str, Any],
) -> Operation[list[str]]:
    """Create flows, all or none, and return their keys in order."""
    states = list(states)
    asked = read_many(states, options)
    if connection is not None:
        return store_within(context, prepare_within(context, workflow, states, asked), connection)
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """Flows that only wait for the host's connection."""

    rows: list[NewRow]
    asked: FlowOptions
    graph: tuple[bytes, str, str] | None
    """A definition that may have to be stored with them."""
    database: object


def prepare_within(
    context: Context, workflow: str, states: Sequence[State | None], asked: FlowOptions
) -> Prepared:
    """Do what can be done without the host's connection.

    Nothing waits for the shard's writer here, who may be waiting for the host's transaction.
    """
    check_workflow(workflow)
    graph_id, graph = context.port.graph_within(workflow, asked.baggage)
    rows = [make_row(context, workflow, graph_id, state, asked) for state in states]
    for row in rows:
        context.port.check_input(graph_id, row[3])
    return Prepared(rows, asked, graph, context.store.identity())


def store_within(context: Context, prepared: Prepared, connection: HostConnection) -> list[str]:
    """Create flows inside the host's transaction: with its commit they are there, unowned, for any engine to claim."""
    if not isinstance(connection, Connection):
        raise Invalid(
            f"connection is {connection!r:.80}: pass a SQLAlchemy Connection (of a Session, session.connection()); "
            "an AsyncEngine takes an AsyncConnection too"
        )
    made = _store_keyed(
        context,
        lambda new: context.store.create_on(connection, prepared.database, new, prepared.graph),
        prepared.rows,
        prepared.asked,
    )
    context.port.expect(connection)
    return [context.key_of(flow.flow_id) for flow in made]


def read_options(options: Mapping[str, Any]) -> FlowOptions:
    """Check the options of a creation.

    Raises:
        Invalid: One is unknown, or has a bad value.
    """
    return FlowOptions.read(options)


def read_many(states: Sequence[State | None], options: Mapping[str, Any]) -> FlowOptions:
    """Check the options of many flows.

    Raises:
        Invalid: As `read_options`; or there are too many states, or an option names one flow.
    """
    asked = read_options(options)
    for name in ("idempotency_key", "business_key"):
        if getattr(asked, name) is not None:
            raise Invalid(f"create_many takes no {name}, which names one flow: call create() for each state")
    if asked.thread is not None:
        raise Invalid("create_many takes no thread, which has one next turn: call create() for each state")
    if len(states) > MAX_STATES:
        raise Invalid(f"create_many got {len(states)} states: at most {MAX_STATES} are stored at once")
    return asked


def resolve(context: Context, workflow: str, asked: FlowOptions) -> bytes:
    """Find the graph that a workflow means now.

    Raises:
        NotFound: Nobody knows it.
        Invalid: Its graph does not compile, or a task of the graph is known to no worker.
    """
    check_workflow(workflow)
    return context.port.graph_of(workflow, asked.baggage)


def check_workflow(workflow: object) -> None:
    """Refuse what names no workflow."""
    if not isinstance(workflow, str):
        raise Invalid(f"a workflow is named by a string, not {workflow!r}")


def make_row(
    context: Context, workflow: str, graph_id: bytes, state: State | None, asked: FlowOptions
) -> tuple[Any, ...]:
    """What the core asks of a new flow."""
    now = context.store.now()
    flow_id = new_flow_id(now)
    thread_id = flow_id if asked.thread is None else thread_of(context, asked.thread)
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
        thread_id,
        1,
        tags,
        baggage,
        None,
        asked.notify_on_stop,
        asked.delete_on_completion,
        now,
        *first_of(asked, now),
    )


def _create_keyed(context: Context, workflow: str, state: State | None, asked: FlowOptions) -> Operation[str]:
    """Create a flow outside the group commit, because its key may name one already, or its turn may be taken."""
    graph_id = resolve(context, workflow, asked)
    row = make_row(context, workflow, graph_id, state, asked)
    context.port.check_input(graph_id, row[3])
    made: list[Created] | Fenced
    written = context.port.write(lambda: _store_keyed(context, context.store.create, [row], asked))
    made = yield from settled(written)
    if isinstance(made, Fenced):
        raise ended("the flow was created")
    context.port.poke()
    return context.key_of(made[0].flow_id)


def _store_keyed(
    context: Context, store: Callable[[list[NewFlow]], Made], rows: Sequence[NewRow], asked: FlowOptions
) -> Made:
    new = [
        replace(
            unowned(row),
            idempotency_key=asked.idempotency_key,
            idempotency_hash=None if asked.idempotency_key is None else _hash_of(row),
            business_key=asked.business_key,
            is_next_turn=asked.thread is not None,
        )
        for row in rows
    ]
    try:
        return store(new)
    except KeyTaken as taken:
        raise Conflict(
            f"an unfinished flow of workflow {taken.workflow!r} has the business key {taken.business_key!r}: "
            f"flow {context.key_of(taken.flow_id)}; wait for it, or cancel it"
        ) from taken


def _hash_of(row: NewRow) -> bytes:
    """What stands for workflow and input, however the fields are ordered."""
    try:
        canonical = json.dumps([row[1], json.loads(row[3])], sort_keys=True)
    except ValueError:  # an integer with more digits than the interpreter converts
        state = json.loads(row[3], parse_int=lambda digits: ["an integer", digits])
        canonical = json.dumps([row[1], state], sort_keys=True)
    return hashlib.sha256(canonical.encode()).digest()


def refused(message: str) -> Exception:
    """What to raise for a flow that was not stored."""
    if message.startswith("the engine was shut down"):
        return ended("the flow was created; nothing of it was stored")
    if message == LOST_CREATION:
        return EngineUnavailable(message)
    return Invalid(f"the database refuses the flow: {message}; nothing was stored")
