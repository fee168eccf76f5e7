"""Forks: new flows that go on from a step of a finished one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock._core import JOURNAL_FORMAT, fork_flow, new_flow_id
from penstock.errors import Conflict
from penstock.operations.context import Context, ended, unknown_step
from penstock.operations.operation import Operation, settled
from penstock.operations.recorded import ancestry, read_recorded
from penstock.operations.rewinds import Overrides
from penstock.options import encode_object
from penstock.outcome import FINISHED
from penstock.store.batch import Fenced
from penstock.store.rows import NewFlow

if TYPE_CHECKING:
    from penstock.store.rows import LoadRow, OutcomeRow


def fork(context: Context, step_key: str, overrides: Overrides) -> Operation[str]:
    """Make a flow that has everything its origin had when the step began, and runs on from there."""
    flow_id, number = context.step_id(step_key)
    text = encode_object({} if overrides is None else overrides, "overrides").decode()
    row = context.store.outcome(flow_id)
    if row is None:
        raise unknown_step(step_key)
    _check_finished(context, row, step_key)
    chain = ancestry(context, row)
    now = context.store.now()
    ids = [new_flow_id(now) for _ in chain]
    new = []
    for at, origin in enumerate(chain):
        loaded, recorded = read_recorded(context, origin.flow_id)
        if at + 1 < len(chain):
            below = chain[at + 1]
            assert below.parent_step is not None
            children = [(below.parent_step, below.flow_id, ids[at + 1])]
            snapshot = fork_flow(recorded, step=None, children=children, overrides="{}", now_ms=now)
        else:
            snapshot = fork_flow(recorded, step=number, children=[], overrides=text, now_ms=now)
        parent = None if at == 0 else (ids[at - 1], origin.parent_step)
        forked = (flow_id, number) if at == 0 else (None, None)
        thread = (chain[0].thread_id, None) if at == 0 else (ids[at], 1)
        names = (ids[at], ids[0], *(parent or (None, None)))
        new.append(_rows(context, chain[0], loaded, names, thread, forked, snapshot, now))
    made = yield from settled(context.port.write(lambda: context.store.create(new)))
    if isinstance(made, Fenced):
        raise ended("the fork was made")
    context.port.poke()
    return context.key_of(ids[0])


def _check_finished(context: Context, row: OutcomeRow, step_key: str) -> None:
    for other in context.store.tree(row.root_id):
        if other.status not in FINISHED:
            raise Conflict(
                f"flow {context.key_of(other.flow_id)} is {other.status}: fork of {step_key} asks that the whole tree "
                "has finished; wait for it, or cancel it"
            )


def _rows(
    context: Context,
    root: OutcomeRow,
    loaded: LoadRow,
    names: tuple[Any, ...],
    thread: tuple[Any, ...],
    forked: tuple[Any, ...],
    snapshot: str,
    now: int,
) -> NewFlow:
    """The rows of one flow of the fork, under the policies of the origin's root."""
    flow_id, graph_id = names[0], loaded.graph_id
    band = (root.priority, root.fairness_key, root.fairness_weight)
    state = (None, loaded.input, loaded.baggage, None, None, False, None, now)
    flow = (
        *names,
        loaded.workflow,
        graph_id,
        "running",
        *band,
        loaded.time_budget_ms,
        *thread,
        *state,
        *forked,
    )
    live = (flow_id, None, 0, 0, *band, now, None, 0, None, graph_id, JOURNAL_FORMAT)
    event = (flow_id, 1, 0, "", "snapshot", 0, context.store.replica_id, None, 0, 0, now, snapshot)
    return NewFlow(flow, live, journal=(event,))
