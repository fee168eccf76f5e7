"""One attempt, run: a carrier and a task in, a result out. What the carrier recorded decides."""

from __future__ import annotations

import asyncio
import contextvars
import json
import time
from typing import Any

from penstock._core import WorkerCodec
from penstock.binding import merge_returned
from penstock.errors import Permanent
from penstock.flow import Flow, _current
from penstock.workers.failure import cancelled, failure_json
from penstock.workers.tasks import Task

Result = tuple[int, int, int, str, str]
"""dispatch, outcome, ran_us, changes, meta: as the codec takes it."""

_MOST_US = 2**32 - 1
# How long cancelled asyncio tasks of an ended attempt may take to end before the result is sent anyway.
_LEFTOVER_SECONDS = 0.5


def run_attempt(flow: Flow, task: Task) -> Result:
    """Run a sync task on the calling thread, in a context of its own."""
    return contextvars.copy_context().run(_run_in_context, flow, task)


def _run_in_context(flow: Flow, task: Task) -> Result:
    _current.set(flow)
    started = time.perf_counter_ns()
    flow._begin()
    try:
        if flow.is_cancelled:
            raise cancelled()
        merge_returned(flow, task.call(flow))
        return settle(flow, None, started)
    except BaseException as error:  # noqa: BLE001 - SystemExit too is an error of the step, not of the worker
        return settle(flow, error, started)


async def run_async_attempt(flow: Flow, task: Task) -> Result:
    """Run an async task as a coroutine of the worker's loop; the caller gives it a context of its own."""
    _current.set(flow)
    started = time.perf_counter_ns()
    flow._begin()
    try:
        merge_returned(flow, await task.call(flow))
        result = settle(flow, None, started)
    except BaseException as error:  # noqa: BLE001 - as above; the loop would let SystemExit through
        result = settle(flow, error, started)
    await _end_leftovers(flow)
    return result


def settle(flow: Flow, error: BaseException | None, started_ns: int) -> Result:
    """Give the result of an attempt that returned (its value is merged) or raised, and close its carrier."""
    ran_us = min((time.perf_counter_ns() - started_ns) // 1000, _MOST_US)
    outcome, changes, meta = _settled(flow, error)
    flow._ended = True
    return flow._attempt.dispatch, outcome, ran_us, changes, meta


def _settled(flow: Flow, error: BaseException | None) -> tuple[int, str, str]:
    calls = flow._calls
    if calls is not None and calls.failure is not None:
        return WorkerCodec.ERROR, "", failure_json(calls.failure)
    if calls is not None and calls.opened:
        if error is None and calls.has_parked_itself:
            error = _swallowed(flow)
        elif not flow.is_cancelled:
            return WorkerCodec.PARKED, flow._parked_changes, f'{{"calls":[{",".join(calls.opened)}]}}'
    if isinstance(error, asyncio.CancelledError):
        error = cancelled()
    if error is not None:
        return WorkerCodec.ERROR, "", failure_json(error)
    return _signalled(flow)


def _signalled(flow: Flow) -> tuple[int, str, str]:
    signals = flow._signals
    changes = flow._fields.changes_json()
    if signals.retry_ms is not None:
        if signals.goto is not None:
            return WorkerCodec.ERROR, "", failure_json(_competing(flow, signals.goto))
        meta: dict[str, Any] = {"delay_ms": signals.retry_ms}
        if signals.delay_ms:
            meta["extra_delay_ms"] = signals.delay_ms
        return WorkerCodec.RETRY, changes, _json(meta)
    if signals.goto is None and not signals.delay_ms:
        return WorkerCodec.DONE, changes, ""
    meta = {} if signals.goto is None else {"goto": signals.goto}
    if signals.delay_ms:
        meta["delay_ms"] = signals.delay_ms
    return WorkerCodec.DONE, changes, _json(meta)


async def _end_leftovers(flow: Flow) -> None:
    """Cancel what the task left running: nothing of an attempt outlives it."""
    if flow._calls is None:
        return
    leftovers = flow._calls.open_tasks()
    for task in leftovers:
        task.cancel()
    if leftovers:
        try:
            await asyncio.wait(leftovers, timeout=_LEFTOVER_SECONDS)
        except asyncio.CancelledError:
            pass  # the attempt has its result already
    flow._calls.look_at_parks()


def _swallowed(flow: Flow) -> Permanent:
    return Permanent(
        "error",
        f"the task at {flow.node!r} made a call that has no answer yet, and did not let it end the attempt; let what the "
        "call raises pass, so no `except BaseException` and no `return` in `finally`",
    )


def _competing(flow: Flow, goto: str) -> Permanent:
    return Permanent(
        "competing_signals",
        f"the task at {flow.node!r} asked both to go to {goto!r} and to run again; ask for one of them",
    )


def _json(meta: dict[str, Any]) -> str:
    return json.dumps(meta, separators=(",", ":"))
