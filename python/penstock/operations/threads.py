"""Threads: chains of flows in which each turn goes on with what the one before came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock._core import continue_state, new_flow_id
from penstock.errors import Conflict, Invalid, NotFound
from penstock.operations.beginning import unowned
from penstock.operations.context import Context, ended, unknown_flow
from penstock.operations.operation import Operation, settled
from penstock.options import encode_object
from penstock.store.batch import Fenced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.outcome import Json
    from penstock.store.rows import LoadRow, NewFlow, OutcomeRow


def thread_of(context: Context, key: str) -> bytes:
    """The thread that a flow is in.

    Raises:
        NotFound: No such flow.
        Invalid: The flow is a child, which has no thread.
    """
    flow_id = context.flow_id(key)
    row = context.store.outcome(flow_id)
    if row is None:
        # A thread bears the key of its first turn, which may be gone while later ones are there.
        if context.store.latest_turn(flow_id) is None:
            raise unknown_flow(key)
        return flow_id
    if row.parent_id is not None:
        root = context.key_of(row.root_id)
        raise Invalid(f"flow {key} is a child and in no thread; name its root, {root}")
    return row.thread_id or row.flow_id


def continue_(context: Context, thread: str, more: Mapping[str, Json] | None) -> Operation[str]:
    """Create the next turn of a thread from the final state of its latest one."""
    thread_id = thread_of(context, thread)
    added = encode_object({} if more is None else more, "more").decode()
    latest = context.store.latest_turn(thread_id)
    if latest is None:
        raise NotFound(f"the thread of flow {thread} has no turn left; create a flow with thread={thread!r}")
    if latest.status != "completed":
        key = context.key_of(latest.flow_id)
        raise Conflict(
            f"flow {key}, turn {latest.turn} of the thread, is {latest.status}: continue_ asks that the latest turn "
            "has completed"
        )
    new = _next_turn(context, thread_id, latest, added)
    try:
        made = yield from settled(context.port.write(lambda: context.store.create([new])))
    except Conflict as conflict:
        raise _lost(context, thread_id, latest) from conflict
    if isinstance(made, Fenced):
        raise ended("the thread was continued")
    context.port.poke()
    return context.key_of(made[0].flow_id)


def _next_turn(context: Context, thread_id: bytes, latest: OutcomeRow, added: str) -> NewFlow:
    rows: list[LoadRow] = context.store.load([latest.flow_id])
    definition = context.store.graph(latest.graph_id)
    if not rows or definition is None or latest.turn is None:
        raise NotFound(f"flow {context.key_of(latest.flow_id)} is gone, or its graph")
    state = continue_state(definition, latest.output or "{}", added)
    now = context.store.now()
    flow_id = new_flow_id(now)
    band = (latest.priority, latest.fairness_key, latest.fairness_weight, rows[0].time_budget_ms)
    place = (thread_id, latest.turn + 1)
    about = (None, rows[0].baggage, None, None, False, now)
    return unowned((flow_id, latest.workflow, latest.graph_id, state, *band, *place, *about, False, None))


def _lost(context: Context, thread_id: bytes, before: OutcomeRow) -> Conflict:
    winner = context.store.latest_turn(thread_id)
    if winner is None or winner.flow_id == before.flow_id:
        return Conflict("somebody else continued the thread first, and that turn is gone again")
    return Conflict(
        f"flow {context.key_of(winner.flow_id)} continued the thread first, as turn {winner.turn}; continue that one "
        "when it has completed"
    )
