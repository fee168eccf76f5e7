"""How a database says no. Both carry the driver's exception as their cause."""

from penstock.errors import Conflict, EngineUnavailable, Invalid


class Outage(EngineUnavailable):
    """The database did not answer or could not write; the same call may succeed later."""


class RefusedRow(Invalid):
    """The database refused a row for what it holds; the same call will be refused again."""


class LostCommits(EngineUnavailable):
    """The database no longer has what it had acknowledged: a failover or a restore took it.

    Every commit raises it until `register` is called again: what this process remembers of its flows is not what the
    journal says, and an event appended to it would leave a gap.
    """


class KeyTaken(Conflict):
    """A flow that has not finished has the business key.

    Attributes:
        flow_id: That flow.
    """

    def __init__(self, workflow: str, business_key: str, flow_id: bytes) -> None:
        super().__init__(
            f"An unfinished flow of workflow {workflow!r} has the business key {business_key!r}."
        )
        self.workflow = workflow
        self.business_key = business_key
        self.flow_id = flow_id
