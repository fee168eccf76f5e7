"""What a caller gets back: frozen values, made by the engine and read by everybody.

Keys are strings, instants aware datetimes in UTC, durations timedeltas, states JSON mappings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from penstock.encoding import Json as Json

Row = TypeVar("Row")

#: Every status of a flow.
STATUSES = ("running", "interrupted", "paused", "completed", "failed", "cancelled")
#: Statuses at which `wait` returns.
STOPPED = frozenset({"interrupted", "completed", "failed", "cancelled"})
#: Statuses that only a restart, a recovery or a deletion leaves.
FINISHED = frozenset({"completed", "failed", "cancelled"})
#: Every status of a step; `running` only where the engine that owns the flow answers.
STEP_STATUSES = (
    "ready",
    "running",
    "waiting",
    "parked",
    "completed",
    "routed",
    "failed",
    "cancelled",
)


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why a step, and with it perhaps its flow, failed.

    Attributes:
        code: Stable and for programs: the author's own, or one of the engine's (`poison`, `time_budget`, …).
        message: A sentence for people.
        type: Name of the exception class, empty where there was none.
        retryable: Whether another attempt could have mended it.
        node: The node that failed.
        step_key: The step that failed.
        data: What the task gave along, JSON.
    """

    code: str
    message: str
    type: str = ""
    retryable: bool = False
    node: str = ""
    step_key: str = ""
    data: Json = None


@dataclass(frozen=True, slots=True)
class OpenInterrupt:
    """A question that nobody has answered yet, or a breakpoint that holds a step.

    Attributes:
        kind: `interrupt` or `breakpoint`.
        key: What the task called it by, None where it did not.
        payload: What the task wants to know, JSON.
        expires_at: When the task goes on without an answer, None for never.
    """

    interrupt_id: str
    flow_key: str
    step_key: str
    node: str
    kind: str
    key: str | None
    payload: Json
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flow has come to, or, while it runs, where it stands.

    Attributes:
        thread_key: Key of the first flow of the thread; of a flow without one, its own.
        state: The final state, or the current one of a flow that goes on. That of a failed or cancelled flow is the
            fold of what had completed.
        error: Set when `status` is `failed`.
        cancel_reason: What `cancel` was told; set when `status` is `cancelled`.
        interrupts: The open questions of the flow and of everything below it, oldest first.
    """

    key: str
    workflow: str
    thread_key: str
    status: str
    state: Mapping[str, Json]
    error: ErrorInfo | None = None
    cancel_reason: str | None = None
    interrupts: tuple[OpenInterrupt, ...] = ()

    @property
    def is_stopped(self) -> bool:
        """Whether `wait` returns: interrupted, completed, failed or cancelled."""
        return self.status in STOPPED

    @property
    def is_finished(self) -> bool:
        """Whether the flow has ended: completed, failed or cancelled."""
        return self.status in FINISHED


@dataclass(frozen=True, slots=True)
class FlowSummary:
    """A flow in a list: what is known without reading its journal.

    Attributes:
        correlation_id: The short name of the flow in logs and telemetry; it gives no access.
        nodes: Where the flow stood when it was last written, at most about a second ago for one that moves.
        trace_id: Hexadecimal id of the trace that the flow belongs to, None where it was created outside one.
    """

    key: str
    correlation_id: str
    thread_key: str
    parent_key: str | None
    forked_from: str | None
    workflow: str
    status: str
    nodes: tuple[str, ...]
    error: ErrorInfo | None
    cancel_reason: str | None
    priority: int
    fairness_key: str
    tags: Mapping[str, str]
    trace_id: str | None
    created_at: datetime
    updated_at: datetime
    stopped_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """An engine that shares the database.

    Attributes:
        name: Its label, None where it was given none.
        lease_until: Until when nobody may take it for dead; None when it was declared dead.
        owned: How many flows it owns.
    """

    replica_id: int
    name: str | None
    host: str
    pid: int
    started_at: datetime
    lease_until: datetime | None
    owned: int


@dataclass(frozen=True, slots=True)
class WaitingStep:
    """A step that does not run, or a flow of which nothing runs, and what it waits for.

    Attributes:
        step_key: None where only the flow is known: another engine owns it, or nobody.
        node: Its node, None as above.
        resource: What its task leans on; None where only the owner knows.
        reason: A step's: `not_due`, `parked`, `paused`, `breakpoint`, `committing`, `valve`, `breaker`, `limit`,
            `guarded`, `better_band`, `fairness_turn`, `no_free_worker`. A flow's: `paused`, `breakpoint`, `not_due`,
            `unclaimed`, `loading`, `parked`, and `elsewhere` where another engine knows.
        detail: What there is to know about the reason.
        until: When that may change by time alone, None for never.
        owner: Who owns the flow, None for nobody: the engine's name, or `replica` and its number.
    """

    flow_key: str
    step_key: str | None
    node: str | None
    resource: str | None
    reason: str
    detail: Mapping[str, Json]
    until: datetime | None
    owner: str | None


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    """Something that tasks lean on, as the engine that was asked uses it.

    Attributes:
        ready: Steps of it that wait, of flows that this engine owns; None from a client, as the next two.
        running: Steps of it in workers.
        per_second: Steps of it that were started in the last second.
        valve: What the valve lets through a second; None: it was never congested.
        cause: Why the breaker is open; None: it is not.
        next_probe_at: When the open breaker lets the next step through.
    """

    name: str
    ready: int | None
    running: int | None
    per_second: int | None
    valve: float | None
    cause: str | None
    next_probe_at: datetime | None


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process of an engine.

    Attributes:
        kind: `engine`, `zygote` or `worker`.
        number: The engine's replica id, the worker's number as in `StepInfo.worker`; None for the zygote.
        started_at: By the kernel's word, to a second or so.
    """

    kind: str
    number: int | None
    pid: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A database that holds flows.

    Attributes:
        url: Its address, without a password.
        weight: Its share of new flows.
        is_cordoned: Whether it is given no new flows.
        latency: How long the look took.
        live: Flows that have not finished.
        ready: Those of them that have work and wait for an engine.
        replicas: Engines that are not known to be dead.
        error: What went wrong, None where nothing did; then the counts are 0.
    """

    index: int
    url: str
    weight: int
    is_cordoned: bool
    latency: timedelta
    live: int
    ready: int
    replicas: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One journal entry of a step.

    Attributes:
        ord: Place in the flow's journal, from 1.
        kind: `done`, `failed`, `retry`, `parked`, `resolved`, `lost`, `started` or `control`.
        at: The database's clock at the commit.
        detail: What the entry records beside that, JSON.
    """

    ord: int
    kind: str
    attempt: int
    at: datetime
    detail: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One step of a flow, over all its attempts.

    Attributes:
        number: Place in the flow's numbering, from 1, never reused.
        attempt: Attempts before the current one; 0 first.
        predecessors: Numbers of the steps that led here.
        ordinal: Place among the branches of its cohort, None outside one.
        queued: How long its attempts waited for a worker.
        ran: How long its attempts ran.
        waited: How long it was put off or waited for an answer.
        events: What the journal says about it, oldest first.
        children: Histories of the subgraphs that it called, one tuple a child, in the order of the calls.
        state: The state that it saw; filled by `step`, None in a history.
        changes: What it did to the state, field by field: its contributions, what it set, null where it deleted.
    """

    key: str
    number: int
    node: str
    task: str
    status: str
    attempt: int = 0
    predecessors: tuple[int, ...] = ()
    ordinal: int | None = None
    error: ErrorInfo | None = None
    replica: str | None = None
    worker: int | None = None
    queued: timedelta | None = None
    ran: timedelta | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    events: tuple[StepEvent, ...] = ()
    children: tuple[tuple[StepInfo, ...], ...] = ()
    state: Mapping[str, Json] | None = None
    changes: Mapping[str, Json] | None = None
    waited: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list, newest first.

    Attributes:
        items: The rows of this page.
        cursor: Pass it as `cursor=` for the next page; None on the last one.
        is_scan: Whether no index answers all that was asked, so that rows were looked at one by one: among millions
            such a page takes as long as it takes to find its rows.
    """

    items: tuple[Row, ...]
    cursor: str | None = None
    is_scan: bool = False

    def __iter__(self) -> Iterator[Row]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)
