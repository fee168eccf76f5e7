"""How a database says no. Both carry the driver's exception as their cause."""

from penstock.errors import EngineUnavailable, Invalid


class Outage(EngineUnavailable):
    """The database did not answer or could not write; the same call may succeed later."""


class RefusedRow(Invalid):
    """The database refused a row for what it holds; the same call will be refused again."""
