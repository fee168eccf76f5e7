"""Whether an engine has nothing to do: no step that could run or does, nothing to write, nothing in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from penstock.runtime.replica import Replica


class Standstill(NamedTuple):
    """How far an engine is from having nothing to do.

    Attributes:
        busy: What it still has to do, as the end of a sentence; empty when there is nothing.
        due: The next instant at which it will have something, milliseconds since 1970; None for none.
    """

    busy: str
    due: int | None = None


def look(replica: Replica) -> Standstill:
    """Look at all places where work can be, so that none slips from one to another meanwhile. Any thread but its own."""
    writer, core, store = replica.writer, replica.core, replica.store
    taken = writer.run(lambda: writer.taken).result()
    if busy := _busy(replica):
        return Standstill(busy)
    found = store.look()
    if found.has_own_mail or found.has_unowned_mail:
        return Standstill("a message is unread")
    if found.has_ready:
        return Standstill("a flow waits to be claimed")
    if found.wake_at is not None and found.wake_at <= store.now():
        return Standstill("a flow in the database is due")
    if set(store.owned()) != set(core.owned()):
        return Standstill("a flow is being claimed or released")
    # Last, as a flow that has just been claimed may have a timer that is due.
    due = replica.loop.turn()
    if due is not None and due <= store.now():
        return Standstill("a timer is due")
    if busy := _busy(replica):
        return Standstill(busy)
    if writer.run(lambda: writer.taken).result() != taken:
        return Standstill("events are being written")
    return Standstill("", min((at for at in (due, found.wake_at) if at is not None), default=None))


def _busy(replica: Replica) -> str:
    _, ready, running = replica.core.counts()
    if ready or running:
        return f"{running} steps run and {ready} are ready"
    return "events wait to be written" if replica.core.has_batch() else ""
