"""How a database says no. Both carry the driver's exception as their cause."""

from penstock.errors import EngineUnavailable, Invalid


class Outage(EngineUnavailable):
    """The database did not answer or could not write; the same call may succeed later."""


class RefusedRow(Invalid):
    """The database refused a row for what it holds; the same call will be refused again."""


class LostCommits(EngineUnavailable):
    """The database no longer has what it had acknowledged: a failover or a restore took it.

    Every commit raises it until `register` is called again: what this process remembers of its flows is not what the
    journal says, and an event appended to it would leave a gap.
    """
