"""What is read from the store, and what is asked of it by value: plain frozen rows.

Ids are 16 bytes, graph ids 32, instants integer milliseconds, JSON columns `str`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.store.batch import Row


@dataclass(frozen=True, slots=True)
class NewFlow:
    """A flow to be created outside the group commit, because a unique key of the user's may refuse it.

    Attributes:
        row: `batch.FLOW_COLUMNS`.
        live: `batch.LIVE_COLUMNS`, as a rule unowned and with `ready_at` or `wake_at`.
        journal: `batch.JOURNAL_COLUMNS` of events that stand from the first (a hold, a fork's snapshot).
        idempotency_key: The same key gives the same flow.
        idempotency_hash: SHA-256 of all that was asked: another one under the same key is a conflict.
        business_key: Unique per workflow while the flow has not ended.
        is_next_turn: The store gives `turn` the number after the last one of the row's thread.
    """

    row: Row
    live: Row
    journal: tuple[Row, ...] = ()
    idempotency_key: str | None = None
    idempotency_hash: bytes | None = None
    business_key: str | None = None
    is_next_turn: bool = False


class Created(NamedTuple):
    """The flow that answers a creation; not new when its idempotency key already named one."""

    flow_id: bytes
    is_new: bool


class Claimed(NamedTuple):
    """A flow that this replica has come to own."""

    flow_id: bytes
    claims: int
    graph_id: bytes


class Look(NamedTuple):
    """What a poll finds without writing anything."""

    has_own_mail: bool
    has_unowned_mail: bool
    has_ready: bool
    wake_at: int | None
    """The next due instant of an unowned flow."""


class LoadRow(NamedTuple):
    """What replay needs of one flow. The journal begins at the last snapshot, or at ord 1 when asked for complete."""

    flow_id: bytes
    claims: int
    crashes: int
    mail: int
    graph_id: bytes
    workflow: str
    root_id: bytes
    parent_id: bytes | None
    parent_step: int | None
    status: str
    priority: int
    fairness_key: str
    fairness_weight: float
    time_budget_ms: int | None
    input: str
    baggage: str | None
    trace_parent: str | None
    created_at: int
    thread_id: bytes | None
    notify: str | None
    delete_on_completion: bool
    journal: list[tuple[int, int, str, str, int, int, str]]
    """(ord, step, node, event, attempt, at, body)."""


class Mail(NamedTuple):
    """Unread messages of one flow; `seen` is `mail` as of the snapshot that the messages are from."""

    flow_id: bytes
    seen: int
    messages: list[tuple[int, str, str]]
    """(seq, kind, body) in order."""


class Sent(NamedTuple):
    """A message stands in the inbox under this number."""

    seq: int


class Ended(NamedTuple):
    """The flow takes no more messages: it ended with this status."""

    status: str


class Verdict(NamedTuple):
    """What the owner wrote on a message; both None while it has not."""

    answered_at: int | None
    verdict: str | None


class OutcomeRow(NamedTuple):
    """A flow as its `flows` row tells it."""

    flow_id: bytes
    workflow: str
    thread_id: bytes | None
    status: str
    output: str | None
    error: str | None
    cancel_reason: str | None
    root_id: bytes
    parent_id: bytes | None
    parent_step: int | None
    turn: int | None
    graph_id: bytes
    forked_from: bytes | None
    forked_step: int | None
    priority: int
    fairness_key: str
    fairness_weight: float
    tags: str | None
    baggage: str | None
    trace_parent: str | None
    position: str | None
    created_at: int
    updated_at: int
    stopped_at: int | None


class JournalRow(NamedTuple):
    """One event of a flow."""

    ord: int
    step: int
    node: str
    event: str
    attempt: int
    replica: int
    worker: int | None
    queued_ms: int | None
    ran_ms: int | None
    at: int
    body: str


class PastRow(NamedTuple):
    """A flow with everything that happened to it."""

    flow_id: bytes
    root_id: bytes
    workflow: str
    thread_id: bytes | None
    graph_id: bytes
    status: str
    input: str
    created_at: int
    journal: list[JournalRow]


class InterruptRow(NamedTuple):
    """One open question."""

    interrupt_id: bytes
    flow_id: bytes
    root_id: bytes
    step: int
    node: str
    kind: str
    key: str | None
    payload: str | None
    created_at: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """Which flows to list: those for which everything given holds.

    Attributes:
        node: A node at which the flow stands; as fresh as `position`, which is written at a release, a stop, and
            at most once a second otherwise.
        search: Text that occurs in the workflow's name, the business key, the tags, the error or the reason of a
            cancel, whatever the case of its letters.
        search_id: The flow whose key `search` is.
        older_than: Last written before this instant.
        newer_than: Last written at this instant or later.
        children: Flows below a root too.
    """

    status: str | None = None
    workflow: str | None = None
    thread_id: bytes | None = None
    node: str | None = None
    fairness_key: str | None = None
    priority: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    error_code: str | None = None
    search: str | None = None
    search_id: bytes | None = None
    older_than: int | None = None
    newer_than: int | None = None
    children: bool = False


@dataclass(frozen=True, slots=True)
class InterruptFilter:
    """Which open questions to list: those for which everything given holds.

    With `tree`, a question counts too that this flow asks or has below it, whatever its `key`.
    """

    root_id: bytes | None = None
    interrupt_id: bytes | None = None
    workflow: str | None = None
    node: str | None = None
    key: str | None = None
    tree: bytes | None = None
    is_oldest_first: bool = False


class Answer(NamedTuple):
    """The message that answered a question."""

    seq: int
    sender: str | None
    answered_at: int


class PageOfFlows(NamedTuple):
    """Newest first, without outputs; `cursor` is None on the last page."""

    items: list[OutcomeRow]
    cursor: bytes | None
    is_scan: bool = False
    """Whether rows were looked at one by one, because no index answers all that was asked."""


class Notice(NamedTuple):
    """Something to tell whoever subscribed."""

    seq: int
    flow_id: bytes
    ord: int
    body: str
    attempts: int
    """How often its delivery was begun, with this time."""


class Purged(NamedTuple):
    """How many roots went with everything below them, and where the next chunk begins; None when there is none."""

    roots: int
    after: bytes | None


class ShardRow(NamedTuple):
    """How much a shard holds."""

    live: int
    ready: int
    replicas: int


class PageOfInterrupts(NamedTuple):
    """Newest first; `cursor` is None on the last page."""

    items: list[InterruptRow]
    cursor: bytes | None


class WaitRow(NamedTuple):
    """What the database knows of a flow that has not ended."""

    flow_id: bytes
    status: str
    owner: int | None
    owner_name: str | None
    ready_at: int | None
    wake_at: int | None


class ReplicaRow(NamedTuple):
    """One engine; dead ones stay until no flow names them."""

    replica_id: int
    name: str | None
    host: str
    pid: int
    capacity: int
    started_at: int
    dead_at: int | None
    lease_until: int | None
    owned: int
    """How many flows name it as their owner."""
