"""What of a batch stands in the database already, because the answer to an earlier attempt was lost."""

import enum

from penstock.store.batch import Batch
from penstock.store.dialects.postgresql.connections import Driver, run
from penstock.store.dialects.postgresql.parameters import long_array, uuid_array

_EVENTS = """SELECT j.flow_id, j.ord, j.event, j.replica, j.body
    FROM unnest($1::uuid[], $2::int8[]) x(flow_id, ord) JOIN penstock_journal j USING (flow_id, ord)"""
_FLOWS = "SELECT flow_id FROM penstock_flows WHERE flow_id = ANY ($1::uuid[])"
_OWNED = "SELECT 1 FROM penstock_live WHERE flow_id = $1::uuid AND owner = $2::int8 AND claims = $3::int8"


class Standing(enum.Enum):
    """How much of a unit is found."""

    WHOLE = enum.auto()
    NONE = enum.auto()
    MIXED = enum.auto()
    """Some of it, or something else in its place: not ours."""
    SILENT = enum.auto()
    """The unit inserts nothing that could be found."""


def find(driver: Driver, part: Batch, replica_id: int) -> Standing:
    """Look for the events and flows of *part*."""
    events, flow_ids = list(part.journal), [row[0] for row in part.flows]
    if not events and not flow_ids:
        return Standing.SILENT
    found, is_same = 0, True
    if events:
        keys = [uuid_array(row[0] for row in events), long_array(row[1] for row in events)]
        wanted = {(row[0], row[1]): (row[4], row[6], row[-1]) for row in events}
        for flow_id, ord_, event, replica, body in run(driver, _EVENTS, keys).fetchall():
            found += 1
            is_same &= (event, replica, body) == wanted[flow_id, ord_] and replica == replica_id
    if flow_ids:
        found += len(run(driver, _FLOWS, [uuid_array(flow_ids)]).fetchall())
    if not found:
        return Standing.NONE
    return Standing.WHOLE if is_same and found == len(events) + len(flow_ids) else Standing.MIXED


def is_done(driver: Driver, part: Batch) -> bool:
    """Whether a unit that inserts nothing has had its effect: it releases flows, and they are not ours any more."""
    guards = part.guards()
    owned = [
        run(driver, _OWNED, [flow_id, owner, claims]).fetchone() for _, flow_id, owner, claims, _ in guards
    ]
    return bool(guards) and not any(owned)
