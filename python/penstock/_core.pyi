"""The boundary between Penstock's Python and its Rust core.

Only plain values cross. Flow ids are 16 bytes, graph ids 32, instants (`now_ms`, `…_at`) integer milliseconds since
1970 by the shard's clock, columns that hold JSON are `str`.

An object refuses to work in a process that was forked from the one that made it: `Invalid` names both process ids.
Where nothing else is said, any thread may call, and the interpreter's lock is released while the core works. An
argument of a wrong type raises `TypeError`, an integer that does not fit the core's `OverflowError`.
"""

from collections.abc import Sequence, Set
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, TypedDict, final

__all__ = [
    "JOURNAL_FORMAT",
    "REDUCERS",
    "Batch",
    "Core",
    "Report",
    "WorkerCodec",
    "check_input",
    "check_rewind",
    "check_state",
    "compile_graph",
    "continue_state",
    "count_steps",
    "failed_steps",
    "first_events",
    "flow_key",
    "fork_flow",
    "graph_mermaid",
    "merge_resource_states",
    "mermaid_head",
    "mermaid_label",
    "new_flow_id",
    "nodes_reached",
    "parse_flow_key",
    "parse_step_key",
    "read_flow",
    "reduce",
]

_Finish: TypeAlias = Literal["completed", "failed", "cancelled"]

# --- rows that go in ---

_NewFlowRow: TypeAlias = tuple[
    bytes,  # flow_id
    str,  # workflow
    bytes,  # graph_id
    str,  # input, a JSON object
    int,  # priority, 32 bits, lower first
    str,  # fairness_key
    float,  # fairness_weight
    int,  # time_budget_ms
    bytes,  # thread_id
    int,  # turn
    str | None,  # tags, a JSON object of strings
    str | None,  # baggage, a JSON object
    str | None,  # trace_parent
    str | None,  # notify
    bool,  # delete_on_completion
    int,  # created_at
    bool,  # hold
    int | None,  # start_at
]
_EventRow: TypeAlias = tuple[
    int,  # ord
    int,  # step
    str,  # node
    str,  # event
    int,  # attempt
    int,  # at
    str,  # body, JSON
]
_LoadRow: TypeAlias = tuple[
    bytes,  # flow_id
    int,  # claims
    int,  # crashes
    int,  # mail
    bytes,  # graph_id
    str,  # workflow
    bytes,  # root_id
    bytes | None,  # parent_id
    int | None,  # parent_step
    str,  # status
    int,  # priority
    str,  # fairness_key
    float,  # fairness_weight
    int | None,  # time_budget_ms; None is the core's own
    str,  # input, a JSON object
    str | None,  # baggage, a JSON object
    str | None,  # trace_parent
    int,  # created_at
    str | None,  # notify
    bool,  # delete_on_completion
    list[_EventRow],  # journal
]
_Limit: TypeAlias = tuple[
    int | None,  # max_concurrency
    float | None,  # rate, steps a second
    float | None,  # burst
]
_Message: TypeAlias = tuple[
    int,  # seq
    str,  # kind
    str,  # body, a JSON object
]
_Wanted: TypeAlias = tuple[
    bytes,  # the flow that calls a child
    int,  # its step
    bytes,  # the child
    str,  # the workflow that the child is to run
    str | None,  # the parent's baggage, a JSON object
]
_JournalLine: TypeAlias = tuple[
    int,  # ord
    int,  # step
    str,  # node
    str,  # event
    int,  # attempt
    int,  # replica
    int | None,  # worker
    int | None,  # queued_ms
    int | None,  # ran_ms
    int,  # at
    str,  # body, JSON
]

# --- rows that come out ---

_WaitingRow: TypeAlias = tuple[
    bytes,  # flow_id
    int,  # step
    str,  # node
    str,  # resource
    str,  # reason
    str,  # what there is to know about it, a JSON object
    int | None,  # when that may change by time alone
]
_ResourceRow: TypeAlias = tuple[
    str,  # name
    int,  # ready steps
    int,  # steps in workers
    int,  # steps started in the last second
    float | None,  # what the valve lets through a second
    str | None,  # the open breaker's cause
    int | None,  # its next probe
]
_FlowRow: TypeAlias = tuple[
    bytes,  # flow_id
    bytes,  # root_id
    bytes | None,  # parent_id
    int | None,  # parent_step
    str,  # workflow
    bytes,  # graph_id
    Literal["running"],  # status
    int,  # priority
    str,  # fairness_key
    float,  # fairness_weight
    int,  # time_budget_ms
    bytes,  # thread_id
    int,  # turn
    str | None,  # tags
    str,  # input
    str | None,  # baggage
    str | None,  # trace_parent
    str | None,  # notify
    bool,  # delete_on_completion
    str,  # position, a JSON list with the entry
    int,  # created_at
    None,  # forked_from
    None,  # forked_step
]
_LiveRow: TypeAlias = tuple[
    bytes,  # flow_id
    int | None,  # owner; None leaves the flow to whoever has room
    int,  # claims
    int,  # crashes
    int,  # priority
    str,  # fairness_key
    float,  # fairness_weight
    int,  # ready_at
    None,  # wake_at
    int,  # mail
    None,  # mail_at
    bytes,  # graph_id
    int,  # format
]
_JournalRow: TypeAlias = tuple[
    bytes,  # flow_id
    int,  # ord
    int,  # step
    str,  # node
    str,  # event
    int,  # attempt
    int,  # replica
    int | None,  # worker
    int,  # queued_ms
    int,  # ran_ms
    int,  # at
    str,  # body, JSON
]
_StopRow: TypeAlias = tuple[
    _Finish,  # status
    str,  # output, a JSON object
    str | None,  # error, a JSON object
    str | None,  # cancel_reason
    str,  # position
    int,  # stopped_at
    bytes,  # flow_id
]
_LiveDelete: TypeAlias = tuple[
    bytes,  # flow_id
    int,  # owner
    int,  # claims
    int,  # mail as read
]
_Release: TypeAlias = tuple[
    None,  # ready_at
    int | None,  # wake_at
    bytes,  # flow_id
    int,  # owner
    int,  # claims
    int,  # mail as read
]
_Calm: TypeAlias = tuple[
    bytes,  # flow_id
    int,  # owner
    int,  # claims
]
_StatusRow: TypeAlias = tuple[
    Literal["running", "interrupted"],  # status
    str,  # position, a JSON list of node names
    int,  # updated_at
    bytes,  # flow_id
]
_MessageRow: TypeAlias = tuple[
    bytes,  # flow_id
    str,  # kind
    str,  # body, a JSON object
    None,  # sender
    int,  # created_at
]
_VerdictRow: TypeAlias = tuple[
    int,  # answered_at
    str,  # verdict, a JSON object
    bytes,  # flow_id
    int,  # seq
]
_InterruptRow: TypeAlias = tuple[
    bytes,  # interrupt_id
    bytes,  # flow_id
    bytes,  # root_id
    int,  # step
    str,  # node
    Literal["interrupt"],  # kind
    str | None,  # key
    str | None,  # payload, JSON
    int,  # created_at
    int | None,  # expires_at
]
_OutboxRow: TypeAlias = tuple[
    str,  # topic
    bytes,  # flow_id
    int,  # ord
    str,  # body, JSON
]
_Guard: TypeAlias = tuple[
    int,  # unit
    bytes,  # flow_id
    int,  # owner
    int,  # claims
    int | None,  # mail as read; None when it does not matter
]
_Stopped: TypeAlias = tuple[
    bytes,  # flow_id
    str,  # workflow
    bytes,  # thread_id
    _Finish,  # status
    str,  # output, a JSON object
    str | None,  # error, a JSON object
    str | None,  # cancel_reason
]

# --- what a worker reads and writes ---

_StepMessage: TypeAlias = tuple[
    int,  # WorkerCodec.STEP
    int,  # dispatch
    int,  # graph_no
    int,  # attempt, 0 for the first
    int,  # step
    int,  # created_at_ms of the flow
    int,  # step_created_at_ms
    int,  # budget_ms, from the attempt's start; 0 for ever
    str,  # flow_key
    str,  # node
    str,  # task
    str,  # baggage, a JSON object, or ""
    str,  # state, a JSON object; where fields were left out a null is a field that is not there
    str,  # changes of earlier attempts in the journal's form, or ""
    str,  # calls that are answered, a JSON list, or ""
    str,  # left_out: fields that `fetch` asks for, a JSON list; "*" for too many to name, "" for none
]
_GraphMessage: TypeAlias = tuple[
    int,  # WorkerCodec.GRAPH
    int,  # graph_no
    str,  # reducers, a JSON object of field to reducer
]
_StateMessage: TypeAlias = tuple[
    int,  # WorkerCodec.STATE
    int,  # dispatch
    str,  # the fields that were asked for, a JSON object; "" when the dispatch is not current any more
]
_CancelMessage: TypeAlias = tuple[
    int,  # WorkerCodec.CANCEL
    int,  # dispatch
]
_StopMessage: TypeAlias = tuple[
    int,  # WorkerCodec.STOP
]
_Result: TypeAlias = tuple[
    int,  # dispatch
    int,  # outcome: DONE, ERROR, PARKED or RETRY
    int,  # ran_us, at most 2**32 - 1
    str,  # changes, a JSON object {"set", "overwrite", "del"}, or ""
    str,  # meta: goto and delays, calls or the error, a JSON object, or ""
]

_Overdue: TypeAlias = tuple[
    int,  # worker
    int,  # dispatch
    str,  # why it is given up
]

JOURNAL_FORMAT: Final[int]
"""Version of the journal that this build writes; a column of `live`."""

REDUCERS: Final[tuple[str, ...]]
"""The names of all reducers."""

@final
class Core:
    """Flows, scheduler and batches of one shard, for one replica.

    The way of a step: `frames` hands it to a worker, `receive` takes the result, `take_batch` gives the event to be
    written, `committed` makes its successors ready. Every method may be called from any thread, and waits while
    another call is inside.

    Args:
        replica: This replica's id; it stands in the rows as owner.
        shard: The shard's number, the first part of its keys.
        options: Integers by name; what is left out has its default.
            `room`: flows it wants to own at most (2 048).
            `time_budget_ms`: longest attempt where neither flow nor node says otherwise (120 000).
            `release_after_ms`: a flow that waits longer is given back to the database (5 000).
            `max_steps`: steps that one flow may create (1 000 000).
            `max_event_bytes`: longest input, and longest body of an event (16 MiB).
            `snapshot_bytes`: journal after which a snapshot is worth while (256 KiB).
            `threads`: sync tasks that a worker runs at a time (1).
            `lru_entries`, `lru_bytes`: bounds of the released flows kept in memory (4 096, 64 MiB).

    Raises:
        Invalid: There is no such option.
    """

    def __new__(cls, replica: int, shard: int, options: dict[str, int]) -> Self: ...
    def configure(self, *, room: int | None = None, time_budget_ms: int | None = None) -> None:
        """Change how many flows it holds, and the time budget of flows that have none of their own."""

    def add_graph(self, definition: bytes) -> bytes:
        """Learn a graph and return its id; one that is known is only looked up.

        Args:
            definition: The graph as JSON, as `Graph.definition` gives it.

        Raises:
            Invalid: It breaks a rule; the message names the node, the reason and a way out.
        """

    def publish(self, workflow: str, graph_id: bytes) -> None:
        """Let `workflow` mean this graph from now on.

        Raises:
            NotFound: The graph was never added.
        """

    def workflow(self, workflow: str) -> bytes | None:
        """Return the id of the graph that `workflow` means now, None when it means none."""

    def knows_graph(self, graph_id: bytes) -> bool:
        """Tell whether a graph is known; one that no workflow means is forgotten when many others were used since."""

    def set_tasks(self, tasks: list[tuple[str, bool, list[str] | None, bool]]) -> None:
        """Say which tasks the workers have.

        Args:
            tasks: (name, is_async, fields, takes_flow) of each. A step's frame carries the named fields, with
                `takes_flow` the small others too; with None the whole state.
        """

    def set_default_kind(self, is_async: bool) -> None:
        """Take every task name for known and of this kind, as with a host's executor.

        A task that `set_tasks` has not named gets the whole state.
        """

    def missing_tasks(self, graph_id: bytes) -> list[str]:
        """Return the tasks of a graph that no worker has, in order; none for a graph that was never added."""

    def create(self, flows: Sequence[_NewFlowRow], *, watch_creation: bool, watch_stop: bool) -> None:
        """Take new flows, all or none. Their rows are one unit of the next batch.

        With room they are owned from their first commit on; else, and when they do not start yet, they are left to
        whoever claims them.

        Args:
            flows: (flow_id, workflow, graph_id, input, priority, fairness_key, fairness_weight, time_budget_ms,
                thread_id, turn, tags, baggage, trace_parent, notify, delete_on_completion, created_at, hold, start_at)
                of each.
            watch_creation: Name them in `Report.created` when they are safe.
            watch_stop: Name them in `Report.stopped` or `Report.rests` when they come to rest.

        Raises:
            Invalid: An input is no JSON object, too long, or does not fit a reducer.
            NotFound: A graph was never added.
        """

    def check_input(self, graph_id: bytes, state: str) -> None:
        """Refuse a state that no flow of the graph can start from.

        Raises:
            Invalid: It is no JSON object, or a field does not fit its reducer.
            NotFound: The graph was never added.
        """

    def watch(self, flow_id: bytes) -> None:
        """Name the flow in `Report.stopped` or `Report.rests` when it comes to rest."""

    def unwatch(self, flow_id: bytes) -> None:
        """Forget what `watch` asked."""

    def load(self, rows: Sequence[_LoadRow], now_ms: int) -> list[tuple[bytes, str]]:
        """Take claimed flows in, or flows named by `Report.reload` again, and offer what they have ready.

        A flow with mail neither stops nor is released before `deliver` has brought it.

        Args:
            rows: `store.rows.LoadRow` of each; the journal begins at its last snapshot.
            now_ms: Now.

        Returns:
            (flow_id, reason) of those that cannot be replayed; they are not taken in.
        """

    def ask_for_graphs(self) -> None:
        """Have children of unknown workflows wait until `found_graph` tells their graph, instead of failing."""

    def take_wanted(self) -> list[_Wanted]:
        """Give the children whose graphs are asked for since the last call: (parent, step, child, workflow, baggage)."""

    def found_graph(
        self, wanted: _Wanted, graph_id: bytes | None, failure: tuple[str, str] | None, now_ms: int
    ) -> bool:
        """Create a child that waited for its graph, or have its call fail with a code and a message.

        Returns:
            False when nobody here waits for it any more; whoever owns the parent asks again.
        """

    def deliver(self, flow_id: bytes, seen: int, messages: list[_Message], now_ms: int) -> bool:
        """Handle messages to a flow; those that were handled before are passed over.

        Args:
            flow_id: The flow.
            seen: Its `mail`, read in the same snapshot as the messages.
            messages: (seq, kind, body) in order of `seq`.
            now_ms: Now.

        Returns:
            False when the flow is not here, or has to be loaded again first.
        """

    def wanted_histories(self) -> list[bytes]:
        """Flows of which some mail waits until `tell_history` has brought their whole journal."""

    def tell_history(self, row: tuple[Any, ...], now_ms: int) -> None:
        """Take a flow's whole journal and handle the mail that waits for it.

        Args:
            row: The store's `LoadRow`, loaded complete.
            now_ms: Now.

        Raises:
            CorruptJournal: A row is no event of this version.
        """

    def worker_ready(self, worker: int) -> None:
        """Take note that a worker runs. Its number is never used again in this process."""

    def drain_worker(self, worker: int) -> None:
        """Give the worker no more steps; those that it holds may finish."""

    def worker_gone(self, worker: int, cause: str, now_ms: int) -> None:
        """Take note that a worker is gone, after everything that it sent was received. Its steps run again.

        Args:
            worker: The worker.
            cause: What ended it; it stands in the journal.
            now_ms: Now.
        """

    def receive(self, worker: int, data: bytes, now_ms: int) -> bool:
        """Settle the results in what a worker sent; a frame may come in pieces.

        Returns:
            True when there is something to be written.

        Raises:
            CorruptJournal: The bytes are no frames of a worker, which must be killed.
        """

    def frames(self, now_ms: int) -> list[tuple[int, bytes]]:
        """Hand out the steps that may go now.

        Returns:
            (worker, bytes to be sent), once for each worker that gets something, by worker number.
        """

    def outgoing(self) -> list[tuple[int, bytes]]:
        """Return what `frames` would send without handing out steps: answers to `WorkerCodec.fetch`, cancels."""

    def tick(self, now_ms: int) -> list[_Overdue]:
        """Fire the timers that are due. Time budgets go by a clock that nobody sets, not by `now_ms`.

        Returns:
            The attempts that did not end in time after they were told to. End their worker and say so with `worker_gone`, or
            put another thread in the place of each and say so with `give_up`; until then they come again.
        """

    def next_due(self) -> tuple[int | None, int | None]:
        """Say what is due next, after `frames`, which may bring it nearer.

        Returns:
            The instant of the next timer, and the milliseconds until a time budget may be over; None for none.
        """

    def give_up(self, worker: int, dispatch: int, now_ms: int) -> None:
        """Fail an attempt that does not end; its place in the worker is free."""

    def take_batch(self) -> Batch | None:
        """Take what waits to be written, up to the limits of one batch; None when nothing does.

        Answer it, or all parts of it, with `committed` or `refuse` before the next one is taken.
        """

    def committed(self, batch: Batch, refused_units: list[int], now_ms: int) -> Report:
        """Take note that a batch is safe, and use it up.

        Args:
            batch: The batch.
            refused_units: Its units that were not written because a guard did not hold; they are tried again once
                the mail of their flows was delivered.
            now_ms: Now.

        Raises:
            ValueError: The batch was answered already.
        """

    def refuse(self, batch: Batch, message: str) -> Report:
        """Take back a batch of one unit whose data the database refuses, and use it up.

        New flows in it are refused; other flows go back to their last committed event and are to be loaded again.

        Args:
            batch: The batch.
            message: The database's words.

        Raises:
            ValueError: The batch was answered already.
        """

    def has_batch(self) -> bool:
        """Whether something waits to be written."""

    def room(self) -> int:
        """How many flows to claim now: what its workers will soon run, and no more than fit into memory."""

    def counts(self) -> tuple[int, int, int]:
        """Count the flows that it owns, the steps that are ready, and the steps that are in workers."""

    def owned(self) -> list[bytes]:
        """Return the ids of the flows that it owns, in no order.

        Those of which the creation is not known to be committed are left out.
        """

    def why(self, flow_id: bytes, limit: int, now_ms: int) -> list[_WaitingRow] | None:
        """Say of each step of a flow that does not run why not, by number; None when the flow is not owned here."""

    def waiting(self, resource: str | None, limit: int, now_ms: int) -> list[_WaitingRow]:
        """Say why ready steps wait, best band and oldest first; with *resource* only those that lean on it."""

    def resources(self, now_ms: int) -> list[_ResourceRow]:
        """Show what each resource does, by name."""

    def take_resource_changes(self) -> list[tuple[str, str]]:
        """Return what other replicas should know of resources since the last call: name and state, as JSON."""

    def learn_resources(self, rows: Sequence[tuple[str, str]], now_ms: int) -> None:
        """Take in what `take_resource_changes` of other replicas, or of an earlier life, has given.

        Raises:
            CorruptJournal: A state cannot be read; the others count all the same.
        """

    def set_limits(
        self,
        resource: str,
        total: _Limit,
        each: _Limit,
        per: str | None,
        now_ms: int,
    ) -> None:
        """Bound a resource, and each partition of it, from now on; what runs goes on.

        Args:
            resource: Its name.
            total: On all of it.
            each: On each of its partitions.
            now_ms: Now.
            per: What names a step's partition: `fairness_key`, or `baggage.` and a path in the flow's baggage.

        Raises:
            Invalid: A bound or *per* makes no sense.
        """

    def owned_of(self, flow_ids: Sequence[bytes]) -> list[bytes]:
        """Return those of these ids whose flows it owns, in the order given."""

    def running_steps(self, flow_id: bytes) -> list[int]:
        """Return the numbers of the flow's steps that are in workers now, in no order; none of a flow not owned."""

    def rejoin(self, replica: int) -> list[bytes]:
        """Go on as another replica that owns nothing, after this one was declared dead.

        Everything about flows, workers and batches is forgotten; graphs, tasks and watched flows are kept, and so are
        all counters, so that a result from before matches nothing. The workers must be killed: their numbers are
        unknown from here on.

        Returns:
            Ids of the flows that were being created: none of them is known to be stored.
        """

    def drop_flow(self, flow_id: bytes) -> list[bytes]:
        """Forget a flow that the database says is owned elsewhere, and its rows that wait to be written.

        Returns:
            Ids of the flows whose rows were bound to those: `load` them again.
        """

@final
class Batch:
    """What one commit carries. Made by `Core.take_batch`, used up by `Core.committed` or `Core.refuse`.

    Every list is ready for `executemany` and made anew at each access, in the order of the events. The columns are
    those of `penstock.store.batch`.

    A *unit* is a connected component over the flows that the batch touches: it is written whole or not at all.

    Every member raises `ValueError` once the batch is used up.
    """

    @property
    def number(self) -> int:
        """Its number in this process, for logs; parts of a batch share it."""

    @property
    def events(self) -> int:
        """How many journal rows it has."""

    @property
    def units(self) -> int:
        """How many units the batch was made of; parts of a batch keep its unit numbers."""

    @property
    def flows(self) -> list[_FlowRow]:
        """Rows of `flows` to insert: `FLOW_COLUMNS`."""

    @property
    def live(self) -> list[_LiveRow]:
        """Rows of `live` to insert: `LIVE_COLUMNS`."""

    @property
    def journal(self) -> list[_JournalRow]:
        """Rows of `journal` to insert: `JOURNAL_COLUMNS`."""

    @property
    def stops(self) -> list[_StopRow]:
        """The ends of flows: (status, output, error, cancel_reason, position, stopped_at, flow_id)."""

    @property
    def live_deletes(self) -> list[_LiveDelete]:
        """Rows of `live` to delete: (flow_id, owner, claims, mail as read).

        Mail as read is -1, which no row has, while the mail of a loaded flow was not delivered.
        """

    @property
    def releases(self) -> list[_Release]:
        """Flows to give back: (ready_at, wake_at, flow_id, owner, claims, mail as read), as `live_deletes`."""

    @property
    def calmed(self) -> list[_Calm]:
        """Flows whose `crashes` go back to 0: (flow_id, owner, claims)."""

    @property
    def statuses(self) -> list[_StatusRow]:
        """How flows that live on stand: (status, position, updated_at, flow_id)."""

    @property
    def messages(self) -> list[_MessageRow]:
        """Messages to flows: (flow_id, kind, body, sender, created_at); dropped where the flow has ended."""

    @property
    def verdicts(self) -> list[_VerdictRow]:
        """Answers to messages: (answered_at, verdict, flow_id, seq).

        A verdict is `{"ok":true}` or `{"ok":false,"code":…,"message":…}`.
        """

    @property
    def interrupts(self) -> list[_InterruptRow]:
        """Open questions to insert: `INTERRUPT_COLUMNS`."""

    @property
    def interrupt_deletes(self) -> list[tuple[bytes]]:
        """Questions that are open no more: (interrupt_id,)."""

    @property
    def outbox(self) -> list[_OutboxRow]:
        """Rows of `outbox` to insert: `OUTBOX_COLUMNS`."""

    def arrays(self) -> tuple[int, list[bytes], tuple[bytes, int] | None]:
        """The batch as arrays in PostgreSQL's binary format: groups that are there, columns, flow and ord of the last event.

        The groups are those of `penstock.store.dialects.postgresql.parameters`. All that the batch does to one live
        row is folded into one row of the group `touched`.
        """

    def guards(self) -> list[_Guard]:
        """Return what must hold of live rows: (unit, flow_id, owner, claims, mail as read or None)."""

    def without(self, units: Set[int]) -> Batch:
        """Return a batch of the other units. This one can still be answered."""

    def split(self) -> tuple[Batch, Batch] | None:
        """Return two halves by units, to be answered each by itself; None when only one unit is left."""

@final
class Report:
    """What has to be done after a commit. It never changes."""

    @property
    def created(self) -> list[bytes]:
        """Flows whose creation was watched and whose rows are safe."""

    @property
    def stopped(self) -> list[_Stopped]:
        """Watched flows that ended: (flow_id, workflow, thread_id, status, output, error, cancel_reason)."""

    @property
    def rests(self) -> list[bytes]:
        """Watched flows that were interrupted; they stay watched."""

    @property
    def mail(self) -> list[bytes]:
        """Flows whose mail must be delivered before their stop can be written."""

    @property
    def reload(self) -> list[bytes]:
        """Flows to be loaded again from their journal."""

    @property
    def refused(self) -> list[tuple[bytes, str]]:
        """New flows that the database refuses, with its words: (flow_id, message)."""

    @property
    def broken(self) -> list[tuple[bytes, str]]:
        """Flows whose memory and journal disagree, a defect to be logged: (flow_id, message)."""

    @property
    def notices(self) -> int:
        """How many rows the outbox was given."""

    @property
    def released(self) -> int:
        """How many flows were given back to the database."""

@final
class WorkerCodec:
    """A worker's end of the wire: frames in, tuples out, and back.

    Keeps the interpreter's lock, because it takes microseconds and a task that computes would take its time to hand
    the lock back.
    """

    STEP: ClassVar[int]
    """Kind of (STEP, dispatch, graph_no, attempt, step, created_at_ms, step_created_at_ms, budget_ms, flow_key,
    node, task, baggage, state, changes, calls, left_out)."""

    GRAPH: ClassVar[int]
    """Kind of (GRAPH, graph_no, reducers), which comes before the first step of that graph."""

    CANCEL: ClassVar[int]
    """Kind of (CANCEL, dispatch): the attempt is no longer wanted."""

    STOP: ClassVar[int]
    """Kind of (STOP,): finish what was sent, then exit."""

    STATE: ClassVar[int]
    """Kind of (STATE, dispatch, state): what `fetch` asked for."""

    DONE: ClassVar[int]
    """Outcome: the task returned."""

    ERROR: ClassVar[int]
    """Outcome: the task raised, or returned what is no state."""

    PARKED: ClassVar[int]
    """Outcome: the task waits for the answer of a call."""

    RETRY: ClassVar[int]
    """Outcome: the task asked to run again."""

    MAX_FRAME_BYTES: ClassVar[int]
    """The longest frame that either side writes or accepts."""

    def __new__(cls) -> Self: ...
    def feed(
        self, data: bytes
    ) -> list[_StepMessage | _GraphMessage | _StateMessage | _CancelMessage | _StopMessage]:
        """Read what the engine sent; a frame may come in pieces. One thread, in order.

        Raises:
            CorruptJournal: The bytes are no frames of an engine.
        """

    @staticmethod
    def results(items: list[_Result]) -> bytes:
        """Write frames of finished attempts, (dispatch, outcome, ran_us, changes, meta) each.

        Raises:
            Invalid: There is no such outcome, or one attempt is longer than `MAX_FRAME_BYTES`.
        """

    @staticmethod
    def fetch(dispatch: int, names: str) -> bytes:
        """Write the frame that asks for fields of a step's state: a JSON list of names, or "" for all."""

    @staticmethod
    def hello(about: str) -> bytes:
        """Write the frame that says the worker is ready; `about` is a JSON object."""

    @staticmethod
    def stop() -> bytes:
        """Write the frame with which an engine ends a worker."""

def compile_graph(definition: bytes) -> tuple[bytes, bytes, list[str]]:
    """Check a graph.

    Args:
        definition: The graph as JSON, as `Graph.definition` gives it.

    Returns:
        (graph_id, canonical definition, tasks): the id is the SHA-256 of the canonical definition, the tasks are in
        order, each once.

    Raises:
        Invalid: It breaks a rule; the message names the node, the reason and a way out.
    """

def check_input(definition: bytes, states: list[str]) -> None:
    """Refuse states that no flow of a graph can start from, as `Core.create` would.

    Args:
        definition: The graph as JSON.
        states: JSON objects.

    Raises:
        Invalid: One is no JSON object, too long, or does not fit a reducer; or the graph breaks a rule.
    """

def graph_mermaid(definition: bytes, direction: str) -> str:
    """Draw a graph as a Mermaid flowchart, one that breaks a rule too.

    Args:
        definition: The graph as JSON.
        direction: `LR`, `RL`, `TB` or `BT`.

    Raises:
        Invalid: There is no such direction, or the definition cannot be read.
    """

_Recorded: TypeAlias = tuple[
    str,  # definition of the graph
    str,  # key
    str,  # input, a JSON object
    int,  # created_at
    Sequence[_JournalLine],  # the whole journal
]

def mermaid_head(direction: str) -> str:
    """Write the first line of a Mermaid flowchart.

    Raises:
        Invalid: There is no such direction.
    """

def mermaid_label(text: str) -> str:
    """Write a text as it may stand between the quotes of a label of a Mermaid chart, whatever is in it."""

def fork_flow(
    flow: _Recorded,
    *,
    step: int | None,
    children: Sequence[tuple[int, bytes, bytes]],
    overrides: str,
    now_ms: int,
) -> str:
    """Make the first event of a fork, a snapshot.

    Args:
        flow: The origin.
        step: The step that runs again, from its beginning.
        children: Steps that wait for a child again: (step, the origin's child, the child of the fork).
        overrides: JSON object of what is replaced in the step's view; null deletes.
        now_ms: Now.

    Raises:
        NotFound: No such step.
        Conflict: The step cannot run again while something else stands as it is.
        Invalid: An override does not fit its field's reducer.
    """

def check_rewind(flow: _Recorded, *, body: str, now_ms: int) -> int:
    """Refuse what the flow's owner would refuse of a `rewind` message; how many steps would run again.

    Raises:
        NotFound: No such step.
        Conflict: The flow or the step does not allow it.
        Invalid: An override does not fit its field's reducer.
    """

def failed_steps(flow: _Recorded) -> list[tuple[int, list[bytes]]]:
    """Find the steps whose failure stands, with those of their children that had failed."""

def continue_state(definition: str, state: str, more: str) -> str:
    """Contribute *more* to a state, both JSON objects: what the next turn of a thread starts from.

    Raises:
        Invalid: A field does not fit its reducer.
    """

class _Told(TypedDict):
    definition: str
    """The flow's graph as JSON."""
    key: str
    input: str
    """The state that it was created with, a JSON object."""
    created_at: int
    rows: Sequence[_JournalLine]
    """(ord, step, node, event, attempt, replica, worker, queued_ms, ran_ms, at, body) from ord 1 on."""
    running: Sequence[int]
    """Numbers of the steps that are in workers now; known to the owner only."""

def read_flow(flow: _Told, now_ms: int, step: int | None = None) -> str:
    """Replay a whole journal and tell how the flow stands, in any process.

    Args:
        flow: The flow with its journal.
        now_ms: Now; a step that is delayed beyond it is `waiting`.
        step: The number of the step whose state is wanted too.

    Returns:
        JSON of `status`, `state`, `error`, `cancel_reason`, `nodes` (names of those it stands at) and `steps`. A
        step has `number`, `node`, `task`, `status`, `attempt`, `predecessors`, `ordinal`, `replica`, `worker`,
        `created_at`, `finished_at`, `queued_ms`, `ran_ms`, `waited_ms`, `error`, `changes` in the journal's form,
        `children` (ids in hexadecimal), `events`, and `state` if it is the one wanted.

    Raises:
        CorruptJournal: The rows are no journal of this graph.
        Invalid: The graph or the input cannot be read.
    """

def merge_resource_states(mine: str, other: str) -> str:
    """Bring two states of a resource together, as `Core.take_resource_changes` gives them: of each part the later one.

    Raises:
        CorruptJournal: One cannot be read.
    """

def count_steps(flow: _Told, now_ms: int) -> str:
    """Replay a whole journal and count the steps.

    Returns:
        JSON of `counts` (status to number) and `children` (ids in hexadecimal).

    Raises:
        CorruptJournal: The rows are no journal of this graph.
        Invalid: The graph or the input cannot be read.
    """

def nodes_reached(events: Sequence[tuple[str, str]]) -> list[str]:
    """Name the nodes at which events of a journal made steps, in order, some more than once.

    Args:
        events: (event, body) of journal rows.

    Raises:
        CorruptJournal: One cannot be read.
    """

def first_events(*, hold: bool, start_at: int | None) -> list[str]:
    """Write the bodies of the `control` events that a new flow begins with."""

def new_flow_id(now_ms: int) -> bytes:
    """Make a flow's id: a UUIDv7 that is greater than those that this process made at the same instant.

    At least 64 of its bits are drawn anew for it, from the system's random source.
    """

def flow_key(shard: int, flow_id: bytes) -> str:
    """Write the key of a flow: `SHARD-ID`, the id in base32.

    Raises:
        ValueError: The id has not 16 bytes.
    """

def parse_flow_key(key: str) -> tuple[int, bytes]:
    """Read a flow's key into (shard, flow_id).

    Raises:
        NotFound: It has not the form of a key.
    """

def parse_step_key(key: str) -> tuple[int, bytes, int]:
    """Read a step's key, `FLOWKEY/NUMBER`, into (shard, flow_id, step).

    Raises:
        NotFound: It has not the form of a key.
    """

def reduce(reducer: str, base: bytes | None, adds: list[bytes]) -> bytes:
    """Fold contributions into a field.

    Args:
        reducer: One of `REDUCERS`.
        base: The field's value as JSON; None when it has none.
        adds: The contributions as JSON, in order.

    Returns:
        The new value as JSON; `null` when the field has none.

    Raises:
        Invalid: There is no such reducer, a value is no JSON, or the reducer does not take it.
    """

def check_state(json: bytes) -> None:
    """Refuse what is no state.

    Raises:
        Invalid: It is not UTF-8, or not one JSON object.
    """
