"""One commit: what it carries and what comes of it.

Ids are 16 bytes, graph ids 32, instants integer milliseconds, JSON columns `str`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

Row = tuple[Any, ...]

FLOW_COLUMNS = (
    "flow_id, root_id, parent_id, parent_step, workflow, graph_id, status, priority, fairness_key, fairness_weight, "
    "time_budget_ms, thread_id, turn, tags, input, baggage, trace_parent, notify, delete_on_completion, position, "
    "created_at, forked_from, forked_step"
)
LIVE_COLUMNS = (
    "flow_id, owner, claims, crashes, priority, fairness_key, fairness_weight, ready_at, wake_at, mail, mail_at, "
    "graph_id, format"
)
JOURNAL_COLUMNS = "flow_id, ord, step, node, event, attempt, replica, worker, queued_ms, ran_ms, at, body"
INTERRUPT_COLUMNS = "interrupt_id, flow_id, root_id, step, node, kind, key, payload, created_at, expires_at"
OUTBOX_COLUMNS = "topic, flow_id, ord, body"


class Batch(Protocol):
    """What one commit carries.

    Every list is ready for `executemany`. The core makes it when it is asked for, so ask once. A batch never changes.

    A *unit* is a connected component over the flows that the batch touches: it is written whole or not at all.
    """

    @property
    def flows(self) -> Sequence[Row]:
        """`FLOW_COLUMNS` of new flows."""

    @property
    def live(self) -> Sequence[Row]:
        """`LIVE_COLUMNS` of new flows."""

    @property
    def journal(self) -> Sequence[Row]:
        """`JOURNAL_COLUMNS` of new events."""

    @property
    def stops(self) -> Sequence[Row]:
        """(status, output, error, cancel_reason, position, stopped_at, flow_id)."""

    @property
    def live_deletes(self) -> Sequence[Row]:
        """(flow_id, owner, claims, mail as read)."""

    @property
    def releases(self) -> Sequence[Row]:
        """(ready_at, wake_at, flow_id, owner, claims, mail as read)."""

    @property
    def calmed(self) -> Sequence[Row]:
        """(flow_id, owner, claims): `crashes` goes back to 0."""

    @property
    def statuses(self) -> Sequence[Row]:
        """(status, position, updated_at, flow_id)."""

    @property
    def messages(self) -> Sequence[Row]:
        """(flow_id, kind, body, sender, created_at); dropped where the flow has ended."""

    @property
    def verdicts(self) -> Sequence[Row]:
        """(answered_at, verdict, flow_id, seq)."""

    @property
    def interrupts(self) -> Sequence[Row]:
        """`INTERRUPT_COLUMNS` of new open questions."""

    @property
    def interrupt_deletes(self) -> Sequence[Row]:
        """(interrupt_id,)."""

    @property
    def outbox(self) -> Sequence[Row]:
        """(topic, flow_id, ord, body)."""

    @property
    def units(self) -> int:
        """How many units it had when it was made: they are numbered from 0."""

    def arrays(self) -> tuple[int, list[bytes], tuple[bytes, int] | None]:
        """The batch as arrays in PostgreSQL's binary format, all that it does to one live row folded into one.

        Which groups of columns there are, the columns, and flow and ord of the last event; see
        `dialects.postgresql.parameters`.
        """

    def guards(self) -> Sequence[tuple[int, bytes, int, int, int | None]]:
        """(unit, flow_id, owner, claims, mail or None): what must hold of a live row for the unit to be written."""

    def without(self, units: set[int]) -> Self:
        """The batch minus those units."""

    def split(self) -> tuple[Self, Self] | None:
        """Halves by unit; None when there is only one unit."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A batch was written, but for the units named, of which nothing was.

    Attributes:
        refused: Units whose guards did not hold or of which somebody else held a row; they go into the next batch.
        foreign: Flows of those that this replica does not own any more, or not by the claim it remembers.
    """

    refused: tuple[int, ...] = ()
    foreign: tuple[bytes, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Fenced:
    """This replica was declared dead: nothing was written, and it owns nothing any more."""

    replica_id: int
