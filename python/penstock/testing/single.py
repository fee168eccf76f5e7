"""One task alone, without an engine: called as a worker calls it, again and again until nothing is left to answer."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock._core import WorkerCodec
from penstock.clock import wall_clock_ms
from penstock.encoding import decode, encode
from penstock.errors import InterruptTimeout, Invalid, SubgraphFailed
from penstock.fields import Fields
from penstock.flow import Attempt, Flow
from penstock.outcome import ErrorInfo
from penstock.workers.attempts import Result, run_async_attempt, run_attempt
from penstock.workers.tasks import Task

if TYPE_CHECKING:
    from penstock.options import Duration
    from penstock.outcome import Json

# A task that asks for ever would else never come back.
_MOST_CALLS = 1_000


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What a task came to.

    Attributes:
        outcome: `done`, `failed`, `parked` (a call had no answer) or `retry`.
        state: What its step's successors would see: the given state with the changes folded in.
        changes: What it wrote, field by field; its own contribution to a field with a reducer, None where it deleted.
        goto: The node that it asked for.
        delay: How much later the successors would start.
        retry_after: How long until its next attempt, of one that asked for it by `flow.retry`.
        error: Why it failed.
        calls: Every call it made, in order: `kind`, and `key`, `target`, `payload`, `input`, `ms`, `timeout_ms` where it
            gave them. The last ones of a parked task wait.
        runs: How often it ran from the top.
    """

    outcome: str
    state: Mapping[str, Json] = field(default_factory=dict)
    changes: Mapping[str, Json] = field(default_factory=dict)
    goto: str | None = None
    delay: timedelta = timedelta(0)
    retry_after: timedelta | None = None
    error: ErrorInfo | None = None
    calls: tuple[Mapping[str, Json], ...] = ()
    runs: int = 1

    @property
    def waits_for(self) -> tuple[Mapping[str, Json], ...]:
        """The calls that had no answer."""
        return tuple(call for call in self.calls if call.get("is_open"))


def run_task(
    task: Callable[..., Any],
    state: Mapping[str, Json] | None = None,
    *,
    answers: Sequence[Json | BaseException] | Mapping[str, Json | BaseException] = (),
    reducers: Mapping[str, str] | None = None,
    attempt: int = 0,
    node: str | None = None,
    baggage: Mapping[str, Json] | None = None,
    now: datetime | None = None,
    time_budget: Duration = timedelta(minutes=2),
) -> TaskRun:
    """Run one task as a step would, with `state` for what it sees.

    It runs from the top after each answer, as in an engine: a task that is not ready for that shows it here. Sleeps are
    answered at once, and put `flow.now` forward.

    Args:
        task: The function, sync or async.
        state: What it sees.
        answers: For its interrupts, signals and subgraphs: in the order of the calls, or by the key, the signal's name or
            the workflow. `InterruptTimeout` and `SubgraphFailed` are raised there. Without an answer the task is parked.
        reducers: Those of the graph, field to name.
        attempt: What `flow.attempt` says; 0 is the first.
        node: What `flow.node` says; default is the task's name.
        baggage: What `flow.baggage` says.
        now: What `flow.now` says at first; default is the machine's time.
        time_budget: How far away `flow.deadline` is.

    Raises:
        Invalid: There are answers that nothing asked for.
    """
    return _Bench(task, state, answers, reducers, attempt, node, baggage, now, time_budget).run()


class _Bench:
    """One step's attempts between parks."""

    def __init__(
        self,
        task: Callable[..., Any],
        state: Mapping[str, Json] | None,
        answers: Sequence[Any] | Mapping[str, Any],
        reducers: Mapping[str, str] | None,
        attempt: int,
        node: str | None,
        baggage: Mapping[str, Json] | None,
        now: datetime | None,
        time_budget: Duration,
    ) -> None:
        from penstock.binding import Binding
        from penstock.options import duration_ms, instant_ms

        if isinstance(answers, (str, bytes)):
            raise Invalid(f"answers is {answers!r}: give a list, or a mapping from keys")
        self._task = Task(inspect.iscoroutinefunction(task), Binding(task).call)
        self._name = str(getattr(task, "__penstock_task__", None) or getattr(task, "__name__", "task"))
        self._node = node or self._name
        self._state = encode(dict(state or {}), "the state")
        self._answers = dict(answers) if isinstance(answers, Mapping) else list(answers)
        self._reducers = dict(reducers or {})
        self._attempt = attempt
        self._baggage = encode(dict(baggage or {}), "the baggage")
        self._start = wall_clock_ms() if now is None else instant_ms(now, "now")
        self._is_fixed = now is not None
        self._begun = wall_clock_ms()
        self._slept_ms = 0
        self._budget_ms = duration_ms(time_budget, "time_budget")
        self._recorded: dict[str, dict[str, Json]] = {"add": {}, "set": {}, "del": {}}
        self._calls: list[dict[str, Json]] = []

    def run(self) -> TaskRun:
        """Run until it ends or waits for what nobody answers."""
        for runs in range(1, _MOST_CALLS):
            outcome, changes, meta = self._run_once()
            if outcome != WorkerCodec.ERROR:
                self._record(changes)
            if outcome != WorkerCodec.PARKED:
                return self._result(outcome, meta, runs)
            self._calls += [{**call, "is_open": True} for call in meta["calls"]]
            if not [call for call in self._calls if call["is_open"] and self._answer(call)]:
                return self._result(outcome, meta, runs)
        raise Invalid(f"the task {self._name!r} has made {_MOST_CALLS} calls and does not end")

    def _now(self) -> int:
        passed = 0 if self._is_fixed else wall_clock_ms() - self._begun
        return self._start + self._slept_ms + passed

    def _run_once(self) -> tuple[int, str, dict[str, Any]]:
        answered = [call["record"] for call in self._calls if not call["is_open"]]
        flow = Flow(
            Attempt(
                kind=WorkerCodec.STEP,
                dispatch=1,
                graph_no=0,
                attempt=self._attempt,
                step=1,
                created_at_ms=self._start,
                step_created_at_ms=self._start,
                budget_ms=self._budget_ms,
                flow_key="0-test",
                node=self._node,
                task=self._name,
                baggage=self._baggage,
                state=self._state,
                changes=json.dumps(self._recorded),
                calls=json.dumps(answered),
            ),
            self._reducers,
            None,
            self._now,
        )
        _, outcome, _, changes, meta = self._attempt_of(flow)
        return outcome, changes, decode(meta) if meta else {}

    def _attempt_of(self, flow: Flow) -> Result:
        if not self._task.is_async:
            return run_attempt(flow, self._task)
        from penstock.workers.runner import task_factory

        async def attempt() -> Result:
            asyncio.get_running_loop().set_task_factory(task_factory)
            made = asyncio.get_running_loop().create_task(
                run_async_attempt(flow, self._task), context=contextvars.Context()
            )
            return await made

        return asyncio.run(attempt())

    def _answer(self, call: dict[str, Json]) -> bool:
        """Answer a call if there is an answer; whether there was."""
        if call["kind"] == "sleep":
            self._slept_ms += int(call["ms"])
            answer: Any = None
        elif isinstance(self._answers, dict):
            name = next(
                (call.get(part) for part in ("key", "target") if call.get(part) in self._answers), None
            )
            if name is None:
                return False
            answer = self._answers.pop(name)
        elif self._answers:
            answer = self._answers.pop(0)
        else:
            return False
        record: dict[str, Json] = {name: call.get(name) for name in ("kind", "key", "target")}
        if isinstance(answer, (InterruptTimeout, SubgraphFailed)):
            data = getattr(answer, "data", None)
            record["error"] = {"code": str(answer.code), "message": answer.message, "data": data}
        elif isinstance(answer, BaseException):
            raise Invalid(f"an answer is {answer!r}: give a value, InterruptTimeout or SubgraphFailed")
        else:
            record["answer"] = decode(encode(answer, "an answer"))
        call["is_open"], call["record"] = False, record
        return True

    def _record(self, changes: str) -> None:
        """Keep an attempt's changes in the journal's form, field by field over earlier ones."""
        sent = decode(changes) if changes else {}
        members = {"set": "add", "overwrite": "set"}
        for member, kind in members.items():
            for name, value in sent.get(member, {}).items():
                self._forget(name)
                self._recorded[kind][name] = value
        for name in sent.get("del", ()):
            self._forget(name)
            self._recorded["del"][name] = None

    def _forget(self, name: str) -> None:
        for fields in self._recorded.values():
            fields.pop(name, None)

    def _result(self, outcome: int, meta: Mapping[str, Any], runs: int) -> TaskRun:
        if self._answers and outcome != WorkerCodec.ERROR:
            raise Invalid(f"nothing asked for the answers {self._answers!r}; it called {self._told_calls()}")
        names = {
            WorkerCodec.DONE: "done",
            WorkerCodec.ERROR: "failed",
            WorkerCodec.PARKED: "parked",
            WorkerCodec.RETRY: "retry",
        }
        millisecond = timedelta(milliseconds=1)
        is_retry = outcome == WorkerCodec.RETRY
        delay_ms = meta.get("extra_delay_ms", 0) if is_retry else meta.get("delay_ms", 0)
        fields = Fields(self._state, self._reducers, json.dumps(self._recorded))
        return TaskRun(
            outcome=names[outcome],
            state={name: fields.read(name) for name in fields.names()},
            changes={**self._recorded["add"], **self._recorded["set"], **self._recorded["del"]},
            goto=meta.get("goto"),
            delay=delay_ms * millisecond,
            retry_after=meta["delay_ms"] * millisecond if is_retry else None,
            error=_error(meta, self._node) if outcome == WorkerCodec.ERROR else None,
            calls=tuple(
                {name: value for name, value in call.items() if name != "record"} for call in self._calls
            ),
            runs=runs,
        )

    def _told_calls(self) -> str:
        return ", ".join(str(call["kind"]) for call in self._calls) or "nothing"


def _error(meta: Mapping[str, Any], node: str) -> ErrorInfo:
    names = ("code", "message", "type", "retryable", "data")
    return ErrorInfo(**{name: meta[name] for name in names if name in meta}, node=node)
