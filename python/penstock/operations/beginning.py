"""How a new flow begins: at once, paused, or at an instant to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock._core import first_events

if TYPE_CHECKING:
    from penstock.options import FlowOptions
    from penstock.store.batch import Row


class Beginning(NamedTuple):
    """What stands in the rows of a new flow that nobody owns yet."""

    status: str
    ready_at: int | None
    wake_at: int | None
    journal: tuple[Row, ...]


def first_of(asked: FlowOptions, now: int) -> tuple[bool, int | None]:
    """Whether a new flow is held, and when it starts; an instant that has passed is none."""
    start_at = asked.start_at_ms
    return asked.hold, None if start_at is None or start_at <= now else start_at


def beginning(flow_id: bytes, now: int, hold: bool, start_at: int | None) -> Beginning:
    """The rows of a flow that begins so: what does not start yet is nobody's until its time has come."""
    bodies = first_events(hold=hold, start_at=start_at)
    journal = tuple(
        (flow_id, ord_, 0, "", "control", 0, 0, None, 0, 0, now, body)
        for ord_, body in enumerate(bodies, start=1)
    )
    if hold:
        return Beginning("paused", None, None, journal)
    return Beginning("running", now if start_at is None else None, start_at, journal)
