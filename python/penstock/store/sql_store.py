"""The statements that are the same on every database, over connections that a dialect provides."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection

from penstock.errors import Invalid
from penstock.store import (
    creation,
    flows,
    graphs,
    host_transaction,
    inbox,
    interrupts,
    journal,
    lists,
    outbox,
    pasts,
    removal,
    replicas,
    resources,
    revival,
    waits,
)
from penstock.store.batch import Fenced
from penstock.store.clock import Clock, wall_clock_ms
from penstock.store.lists import JsonQueries
from penstock.store.migrations import check_schema
from penstock.store.rows import (
    Answer,
    Created,
    FlowFilter,
    InterruptFilter,
    JournalRow,
    NewFlow,
    Notice,
    OutcomeRow,
    PageOfFlows,
    PageOfInterrupts,
    PastRow,
    Purged,
    ReplicaRow,
    Sent,
    ShardRow,
    Verdict,
    WaitRow,
)

PAGE_LIMIT = 1_000


class SqlStore(ABC):
    """Everything of `Store` but what a dialect says in its own words."""

    _json: JsonQueries
    _dialect: str

    def __init__(
        self, now: Callable[[], int] | None = None, lease_now: Callable[[], int] | None = None
    ) -> None:
        self._clock = Clock(now or wall_clock_ms)
        self._lease_clock = Clock(lease_now or wall_clock_ms)
        # Written by register and leave, read by any thread:
        self._replica_id = 0

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]:
        """Lend a connection inside a transaction that reads one snapshot. Any thread."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Connection]:
        """Lend the writer's connection inside a transaction, committed at the end. The writing thread."""

    @staticmethod
    @abstractmethod
    def _insert_new(table: Table) -> Any:
        """An INSERT into *table* that leaves out rows of which a key is taken."""

    @abstractmethod
    def identity(self) -> object:
        """What no two databases share."""

    @abstractmethod
    def _identity_of(self, conn: Connection) -> object:
        """The same of a connection that is not of this store, but of its dialect."""

    @property
    def replica_id(self) -> int:
        """The id of the last `register`; 0 before it."""
        return self._replica_id

    def now(self) -> int:
        """The shard's clock in milliseconds since 1970; never goes back."""
        return self._clock.now()

    def attach(self) -> None:
        """Check that the schema is there and of this version."""
        with self._reading() as conn:
            check_schema(conn)

    def renew_lease(self, lease_ms: int) -> bool:
        """Put off the instant at which others may declare this replica dead."""
        with self._writing() as conn:
            return replicas.renew_lease(conn, self._replica_id, self._lease_clock.now() + lease_ms)

    def create(self, flows: Sequence[NewFlow]) -> list[Created] | Fenced:
        """Insert flows, all or none."""
        with self._writing() as conn:
            # A process without an engine has no fence to pass.
            if self._replica_id and not replicas.is_alive(conn, self._replica_id):
                return Fenced(self._replica_id)
            return creation.create_flows(conn, flows, self._insert_new)

    def create_on(
        self,
        conn: Connection,
        identity: object,
        flows: Sequence[NewFlow],
        graph: tuple[bytes, str, str] | None = None,
    ) -> list[Created]:
        """Insert flows inside a transaction of the caller's own."""
        host_transaction.check_transaction(conn, self._dialect)
        if self._identity_of(conn) != identity:
            raise Invalid(
                "connection is to another database than the flows are in: pass a connection to the engine's database"
            )
        return host_transaction.create_on(conn, flows, graph, self.now(), self._insert_new)

    def revive(self, messages: Sequence[tuple[bytes, str, str]]) -> list[Sent] | None:
        """Post messages, all or none, also to flows that have ended."""
        with self._writing() as conn:
            return revival.send_or_revive(conn, messages, self.now(), self._insert_new)

    def latest_turn(self, thread_id: bytes) -> OutcomeRow | None:
        """Read the last turn of a thread."""
        with self._reading() as conn:
            return flows.read_latest_turn(conn, thread_id)

    def publish(self, graph_id: bytes, workflow: str, definition: str) -> None:
        """Store a definition, once for ever."""
        with self._writing() as conn:
            graphs.publish(conn, graph_id, workflow, definition, self.now(), self._insert_new)

    def clean(self, limit: int = 1_000) -> int:
        """Delete inbox rows answered long ago."""
        with self._writing() as conn:
            return inbox.delete_answered(conn, self.now(), limit)

    def purge(self, which: FlowFilter, limit: int, after: bytes | None = None) -> Purged:
        """Remove finished roots with all below them, oldest first."""
        with self._writing() as conn:
            return removal.purge(conn, which, self._json, limit, after)

    def delete(self, flow_id: bytes) -> bool | None:
        """Remove one root that has ended, with all below it."""
        with self._writing() as conn:
            return removal.delete(conn, flow_id, self.now())

    def sweep(self, retain_ms: int | None, limit: int) -> int:
        """Remove roots whose time has come."""
        with self._writing() as conn:
            return removal.sweep(conn, self.now(), retain_ms, limit)

    def take_notices(self, topic: str, held: Collection[int], limit: int) -> list[Notice]:
        """Take what is due to be told."""
        with self._writing() as conn:
            return outbox.take(conn, topic, self._replica_id, held, self.now(), limit)

    def next_notice(self, topic: str) -> int | None:
        """Read when something is due to be told."""
        with self._reading() as conn:
            return outbox.next_due(conn, topic)

    def notice_delivered(self, seq: int) -> None:
        """Remove what was told."""
        with self._writing() as conn:
            outbox.delivered(conn, seq)

    def put_notice_off(self, seq: int, due_at: int) -> None:
        """Have it told again later."""
        with self._writing() as conn:
            outbox.put_off(conn, seq, due_at)

    def write_resources(self, states: Mapping[str, str]) -> None:
        """Tell others what is known of resources."""
        with self._writing() as conn:
            resources.write_resources(conn, states, self.now(), self._insert_new)

    def resources(self) -> list[tuple[str, str]]:
        """Read what anybody has told of resources."""
        with self._reading() as conn:
            return resources.read_resources(conn)

    def wait_of(self, flow_id: bytes) -> WaitRow | None:
        """Read what a flow waits for."""
        with self._reading() as conn:
            return waits.read_wait(conn, flow_id)

    def unclaimed(self, limit: int) -> list[WaitRow]:
        """Read flows that wait for an engine."""
        with self._reading() as conn:
            return waits.read_unclaimed(conn, min(limit, PAGE_LIMIT))

    def shard(self) -> ShardRow:
        """Count what is not finished."""
        with self._reading() as conn:
            return replicas.read_shard(conn)

    def has_living_replica(self) -> bool:
        """Tell whether anybody's lease holds."""
        with self._reading() as conn:
            return replicas.has_lease(conn, self._lease_clock.now())

    def declare_dead(self) -> list[int]:
        """Nobody: where one engine holds the database there are no others."""
        return []

    def release_dead(self) -> int:
        """Nothing: what a predecessor owned was released by `register`."""
        return 0

    def owned(self) -> dict[bytes, int]:
        """Read which flows this replica owns, with the number of each claim."""
        with self._reading() as conn:
            return replicas.read_owned(conn, self._replica_id)

    def replicas(self) -> list[ReplicaRow]:
        """Read all replicas."""
        with self._reading() as conn:
            return replicas.read_replicas(conn)

    def verdicts(self, messages: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], Verdict]:
        """Read what the owners wrote on these messages."""
        with self._reading() as conn:
            return inbox.read_verdicts(conn, messages)

    def outcome(self, flow_id: bytes) -> OutcomeRow | None:
        """Read one flow."""
        with self._reading() as conn:
            return flows.read_outcome(conn, flow_id)

    def outcomes(self, flow_ids: Collection[bytes]) -> dict[bytes, OutcomeRow]:
        """Read any number of flows at once."""
        with self._reading() as conn:
            return flows.read_outcomes(conn, flow_ids)

    def tree(self, root_id: bytes) -> list[OutcomeRow]:
        """Read a root and all flows below it, oldest first."""
        with self._reading() as conn:
            return flows.read_tree(conn, root_id)

    def has_live_children(self, root_id: bytes) -> bool:
        """Tell whether a flow below this root has not finished."""
        with self._reading() as conn:
            return flows.has_live_children(conn, root_id)

    def journal(self, flow_id: bytes, after: int = 0) -> list[JournalRow]:
        """Read the events of a flow past ord *after*, in order."""
        with self._reading() as conn:
            return journal.read_journal(conn, flow_id, after)

    def pasts(self, flow_ids: Sequence[bytes]) -> list[PastRow]:
        """Read flows with their whole journals, in one snapshot."""
        with self._reading() as conn:
            return pasts.read_pasts(conn, flow_ids)

    def mark(self, root_id: bytes) -> tuple[int, ...]:
        """Read numbers of which one changes with whatever happens in a tree."""
        with self._reading() as conn:
            return pasts.read_mark(conn, root_id)

    def list_flows(self, which: FlowFilter, limit: int = 100, cursor: bytes | None = None) -> PageOfFlows:
        """Read a page of flows, newest first."""
        with self._reading() as conn:
            return lists.list_flows(conn, which, self._json, min(limit, PAGE_LIMIT), cursor)

    def list_interrupts(
        self, which: InterruptFilter, limit: int = 100, cursor: bytes | None = None
    ) -> PageOfInterrupts:
        """Read a page of open questions, newest first unless asked otherwise."""
        with self._reading() as conn:
            return interrupts.list_interrupts(conn, which, min(limit, PAGE_LIMIT), cursor)

    def answer_of(self, root_id: bytes, interrupt_id: bytes) -> Answer | None:
        """Find the message that answered a question of this tree."""
        with self._reading() as conn:
            return interrupts.read_answer(conn, root_id, interrupt_id)

    def graph(self, graph_id: bytes) -> str | None:
        """Read a definition."""
        with self._reading() as conn:
            return graphs.read_definition(conn, graph_id)

    def newest_graph(self, workflow: str) -> tuple[bytes, str] | None:
        """Read id and definition of what was last published under this name."""
        with self._reading() as conn:
            return graphs.read_newest(conn, workflow)
