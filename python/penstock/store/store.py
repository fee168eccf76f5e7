"""The store of one shard: everything that the engine asks of a database.

Who may call what: methods under *writes* are called by one thread at a time, which in an engine is the writer's
(`runtime.writer.Writer.run` brings a call there); methods under *reads* by any thread; the heartbeat and the
housekeeping by one thread each, which may be any but the writer's.

A database that does not answer raises `Outage`, and the call may be repeated unchanged. A row that the database
refuses raises `RefusedRow`, and nothing of the transaction was written.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError

from penstock.errors import Invalid
from penstock.store.batch import Batch, Committed, Fenced
from penstock.store.rows import (
    Answer,
    Claimed,
    Created,
    Ended,
    FlowFilter,
    InterruptFilter,
    JournalRow,
    LoadRow,
    Look,
    Mail,
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

Now: TypeAlias = Callable[[], int] | None
"""A clock; None for the default one."""


class Store(Protocol):
    """One shard. See the module for the threads that may call it."""

    @property
    def replica_id(self) -> int:
        """The id of the last `register`; 0 before it."""

    @property
    def is_shared(self) -> bool:
        """Whether several engines may use the database at once."""

    def now(self) -> int:
        """The shard's clock in milliseconds since 1970; never goes back. Any thread."""

    def close(self) -> None:
        """Close all connections and let go of what `register` took. Idempotent."""

    # --- life of a replica (writes) ---

    def register(self, *, name: str | None = None, capacity: int = 0, lease_ms: int = 15_000) -> int:
        """Bring the schema up to date, enter this process as a new replica and return its id.

        On SQLite the engine's lock is taken first, and flows that a predecessor owned become unowned and ready. On
        the others a replica of the same *name* whose lease has lapsed, or whose process is known to be gone, is
        declared dead and its flows are released; one that lives is waited for, a lease time at most.

        May be called again after `Fenced` or `LostCommits`: the process enters as a stranger and inherits nothing.

        Raises:
            EngineUnavailable: Another engine holds the database, a replica of this name lives, or the database cannot
                be reached.
        """

    def attach(self) -> None:
        """Check that the schema is there, for a process that reads, creates and sends but never registers.

        Raises:
            EngineUnavailable: No engine has used this database yet, or its schema is of another version.
        """

    def leave(self) -> int:
        """Release all flows of this replica, unregister it and return how many they were; 0 when there is none."""

    # --- heartbeat (a thread of its own) ---

    def renew_lease(self, lease_ms: int) -> bool:
        """Put off the instant at which others may declare this replica dead. False: it has been.

        On a connection of its own, opened by `register` and never shared: nothing can keep it waiting but the database.
        """

    # --- housekeeping, every third of a lease (a thread of its own) ---

    def declare_dead(self) -> list[int]:
        """Declare dead whose lease has lapsed, and return their ids.

        Nobody, until this replica has renewed its own lease without a gap for one whole lease time. An open batch of
        the replica is waited for, and its server process ended after five seconds.
        """

    def release_dead(self) -> int:
        """Release a chunk of the flows that dead replicas own, and return how many; call again until it is 0.

        Every replica does it, whoever made the declaration. `crashes` of the flows goes up by one. The dead whom no
        flow names any more are forgotten.
        """

    def owned(self) -> dict[bytes, int]:
        """Read which flows this replica owns by the database's word, with the number of each claim."""

    # --- writes ---

    def commit(self, batch: Batch) -> Committed | Fenced:
        """Write *batch* in one transaction.

        A unit whose guards do not hold, or of which somebody else holds a row, is left out and named in the answer;
        it belongs into the next batch. A batch that is known to have been committed (its acknowledgement was lost)
        counts as committed. A unit whose rows were locked ten times in a row is waited for on a second connection,
        beside the batches, and written there when a later batch brings it again.

        Raises:
            Outage: Nothing is known to be written; call again with the same batch.
            RefusedRow: Nothing is written, and will not be as the batch stands. Also when the connection was lost
                three times in a row during this very batch.
            LostCommits: After a reconnect the newest acknowledged event is gone. Nothing is written until `register`
                is called again.
        """

    def claim(
        self, ready: int, mail: int = 256, exclude: Collection[bytes] = (), max_format: int = 1
    ) -> list[Claimed] | Fenced:
        """Take unowned flows: up to *mail* with unread mail, then up to *ready* of those with work, best first.

        Timers that are due are made ready first, a chunk at a time. Flows of the graphs in *exclude* and of formats
        above *max_format* stay where they are. Read what was claimed by `load`, after this has committed.
        """

    def give_back(self, claims: Sequence[Claimed]) -> None:
        """Release flows that this replica cannot run after all; they keep their place among the ready."""

    def create(self, flows: Sequence[NewFlow]) -> list[Created] | Fenced:
        """Insert flows, all or none; without a fence where there is no replica, as nobody then owns them.

        Raises:
            Conflict: An idempotency key names a flow that was asked otherwise, a turn of a thread is taken, or an
                unfinished flow has the business key.
        """

    def identity(self) -> object:
        """What no two databases share, for `create_on`. Any thread."""

    def create_on(
        self,
        conn: Connection,
        identity: object,
        flows: Sequence[NewFlow],
        graph: tuple[bytes, str, str] | None = None,
    ) -> list[Created]:
        """Insert flows inside a transaction of the caller's own, on the caller's thread; asks no other connection.

        *identity* is this database's, read just before. With *graph*, (id, workflow, definition), that is stored too. Unowned flows are claimed after the commit.

        Raises:
            Invalid: The connection leads to another database, or commits each statement by itself.
            Conflict: As `create`.
        """

    def send(self, flow_id: bytes, kind: str, body: str, sender: str | None = None) -> Sent | Ended | None:
        """Put a message into a flow's inbox; None when there is no such flow."""

    def revive(self, messages: Sequence[tuple[bytes, str, str]]) -> list[Sent] | None:
        """Put (flow_id, kind, body) into inboxes, all or none; a flow that has ended is made live again to read its own.

        Its row in `flows` stays as it is until its new owner obeys; refuses it, the live row goes again. None when one
        of the flows does not exist. The flows of a tree are given root first.

        Raises:
            Conflict: An unfinished flow has the business key of one that would be revived.
        """

    def publish(self, graph_id: bytes, workflow: str, definition: str) -> None:
        """Store a definition, once for ever; a definition published again becomes its workflow's newest."""

    def clean(self, limit: int = 1_000) -> int:
        """Delete up to *limit* inbox rows answered more than ten minutes ago and return how many."""

    def purge(self, which: FlowFilter, limit: int, after: bytes | None = None) -> Purged:
        """Remove up to *limit* finished roots with all below them, oldest first, past the cursor *after*.

        What is still alive somewhere below, and what somebody else is about to change, stays.
        """

    def delete(self, flow_id: bytes) -> bool | None:
        """Remove one root that has ended, at once or when what is below it has ended too.

        None: there is no such flow. False: it has not ended.
        """

    def sweep(self, retain_ms: int | None, limit: int) -> int:
        """Remove up to *limit* roots whose time has come, and return how many; call again until it is less.

        With *retain_ms* these are also the roots that finished longer ago than that.
        """

    def take_notices(self, topic: str, held: Collection[int], limit: int) -> list[Notice]:
        """Take up to *limit* due rows of the outbox, but those in *held*, which are being delivered.

        A row is this replica's until it is delivered or put off, or until this replica is dead.
        """

    def notice_delivered(self, seq: int) -> None:
        """Remove a row of the outbox."""

    def put_notice_off(self, seq: int, due_at: int) -> None:
        """Have a row of the outbox delivered again, at an instant, by anybody."""

    def write_resources(self, states: Mapping[str, str]) -> None:
        """Bring the states of resources, by name, together with those that others have written meanwhile."""

    # --- reads ---

    def resources(self) -> list[tuple[str, str]]:
        """Read (name, state) of all resources of which anything was told."""

    def wait_of(self, flow_id: bytes) -> WaitRow | None:
        """Read what the database knows of a flow that has not ended; None when it has, or never was."""

    def unclaimed(self, limit: int) -> list[WaitRow]:
        """Read up to *limit* flows, at most 1 000, that have work and no owner: by band, then key, then age."""

    def next_notice(self, topic: str) -> int | None:
        """Read from when on something of the outbox is due; None when there is nothing."""

    def shard(self) -> ShardRow:
        """Count the flows that have not finished; reads all of their rows."""

    def has_living_replica(self) -> bool:
        """Tell whether an engine may be alive; False only when there is none for certain, or none's lease holds."""

    def replicas(self) -> list[ReplicaRow]:
        """Read all replicas, the dead whom flows still name too."""

    def look(self) -> Look:
        """Tell whether a claim or a look into the inbox would find anything."""

    def load(self, flow_ids: Sequence[bytes], *, complete: bool = False) -> list[LoadRow]:
        """Read flows and their journals, in one snapshot; what does not exist is left out.

        A flow that has ended has 0 for `claims`, `crashes` and `mail`. With *complete* the journal begins at ord 1.
        """

    def read_mail(self, delivered: Mapping[bytes, int]) -> list[Mail]:
        """Read unread messages of the flows that this replica owns, past the `seq` given in *delivered*.

        A flow whose messages have all been delivered appears with an empty list, one without unread mail not at all.
        """

    def mail_of(self, flow_ids: Sequence[bytes]) -> list[Mail]:
        """Read all unread messages of these flows, an empty list where there are none; ended flows are left out."""

    def verdicts(self, messages: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], Verdict]:
        """Read what the owners wrote on these (flow_id, seq); a message that has been swept away is left out."""

    def outcome(self, flow_id: bytes) -> OutcomeRow | None:
        """Read one flow."""

    def outcomes(self, flow_ids: Collection[bytes]) -> dict[bytes, OutcomeRow]:
        """Read any number of flows at once."""

    def tree(self, root_id: bytes) -> list[OutcomeRow]:
        """Read a root and all flows below it, oldest first."""

    def has_live_children(self, root_id: bytes) -> bool:
        """Tell whether a flow below this root has not finished."""

    def latest_turn(self, thread_id: bytes) -> OutcomeRow | None:
        """Read the last turn of a thread; forks are none."""

    def journal(self, flow_id: bytes, after: int = 0) -> list[JournalRow]:
        """Read the events of a flow past ord *after*, in order."""

    def pasts(self, flow_ids: Sequence[bytes]) -> list[PastRow]:
        """Read flows with their whole journals, in one snapshot and no order; what does not exist is left out."""

    def mark(self, root_id: bytes) -> tuple[int, ...]:
        """Read numbers of which one changes with whatever happens in a tree: its flows, events, messages."""

    def list_flows(self, which: FlowFilter, limit: int = 100, cursor: bytes | None = None) -> PageOfFlows:
        """Read a page of at most 1 000 flows, newest first."""

    def list_interrupts(
        self, which: InterruptFilter, limit: int = 100, cursor: bytes | None = None
    ) -> PageOfInterrupts:
        """Read a page of at most 1 000 open questions, newest first unless asked otherwise."""

    def answer_of(self, root_id: bytes, interrupt_id: bytes) -> Answer | None:
        """Find the message that answered a question of this tree; None when it was none, or is swept away."""

    def graph(self, graph_id: bytes) -> str | None:
        """Read a definition."""

    def newest_graph(self, workflow: str) -> tuple[bytes, str] | None:
        """Read id and definition of what was last published under this name."""


def open_store(
    url: str, now: Callable[[], int] | None = None, lease_now: Callable[[], int] | None = None
) -> Store:
    """Open the database at *url*, a SQLAlchemy URL.

    `sqlite://` is a database of its own in a temporary directory, gone when the store is closed. A SQLite URL takes
    `?synchronous=NORMAL` (a power failure may lose the newest commits, a crash of the process none). A PostgreSQL URL
    takes libpq's options, and `prepare`: `auto` (the default) has the server keep the plans of the hot statements
    where no proxy stands between, `on` always, `off` never.

    Args:
        url: `sqlite:///flows.db`, `postgresql://user@host/database` and the like.
        now: The clock in milliseconds that work is scheduled by, for tests; default: the database's, on SQLite the
            process's.
        lease_now: The one that leases are judged by, for tests of them; same default. They measure whether a process
            lives, which a test that lets thirty days pass at once must not change.

    Raises:
        Invalid: The URL cannot be read, or names a database or an option that this version does not know.
        EngineUnavailable: The database cannot be reached.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Invalid(f"{url!r} is not a database URL; one is sqlite:///flows.db.") from error
    opener = _OPENERS.get(parsed.get_backend_name())
    if opener is None:
        raise Invalid(
            f"Databases of this version: {', '.join(sorted(_OPENERS))}; {parsed.get_backend_name()!r} is not one."
        )
    return opener(parsed, now, lease_now)


def _open_sqlite(url: URL, now: Now, lease_now: Now) -> Store:
    from penstock.store.dialects.sqlite import SqliteStore

    return SqliteStore(url, now, lease_now)


def _open_postgresql(url: URL, now: Now, lease_now: Now) -> Store:
    from penstock.store.dialects.postgresql import PostgresStore

    return PostgresStore(url, now, lease_now)


_OPENERS: dict[str, Callable[[URL, Now, Now], Store]] = {
    "sqlite": _open_sqlite,
    "postgresql": _open_postgresql,
}
"""One entry for each database that this version can run on; its dialect is imported when it is asked for."""
