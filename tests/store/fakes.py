"""A batch in plain Python, and the rows that go into one."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from penstock.store.batch import Committed, Row
from tests.store.arrays import encode

T0 = 1_700_000_000_000
GRAPH = b"g" * 32

# Where a row names its flow.
_FLOW_AT = {
    "flows": 0,
    "live": 0,
    "journal": 0,
    "stops": 6,
    "live_deletes": 0,
    "releases": 2,
    "calmed": 0,
    "statuses": 3,
    "messages": 0,
    "verdicts": 2,
    "interrupts": 1,
    "outbox": 1,
}


@dataclass
class FakeBatch:
    """Units are the flows, unless `together` says that some are one."""

    flows: list[Row] = field(default_factory=list)
    live: list[Row] = field(default_factory=list)
    journal: list[Row] = field(default_factory=list)
    stops: list[Row] = field(default_factory=list)
    live_deletes: list[Row] = field(default_factory=list)
    releases: list[Row] = field(default_factory=list)
    calmed: list[Row] = field(default_factory=list)
    statuses: list[Row] = field(default_factory=list)
    messages: list[Row] = field(default_factory=list)
    verdicts: list[Row] = field(default_factory=list)
    interrupts: list[Row] = field(default_factory=list)
    interrupt_deletes: list[Row] = field(default_factory=list)
    outbox: list[Row] = field(default_factory=list)
    together: dict[bytes, bytes] = field(default_factory=dict)
    numbers: dict[bytes, int] = field(default_factory=dict)

    def unit(self, flow_id: bytes) -> int:
        flow_id = self.together.get(flow_id, flow_id)
        return self.numbers.setdefault(flow_id, len(self.numbers))

    def _flow_ids(self) -> Iterator[bytes]:
        for name, at in _FLOW_AT.items():
            yield from (row[at] for row in getattr(self, name))

    def units_present(self) -> list[int]:
        return sorted({self.unit(flow_id) for flow_id in self._flow_ids()})

    @property
    def units(self) -> int:
        self.units_present()
        return len(self.numbers)

    def arrays(self) -> tuple[int, list[bytes], tuple[bytes, int] | None]:
        return encode(self)

    def guards(self) -> list[tuple[int, bytes, int, int, int | None]]:
        rows = [(f, owner, claims, mail) for f, owner, claims, mail in self.live_deletes]
        rows += [(f, owner, claims, mail) for _, _, f, owner, claims, mail in self.releases]
        rows += [(f, owner, claims, None) for f, owner, claims in self.calmed]
        return [(self.unit(f), f, owner, claims, mail) for f, owner, claims, mail in rows]

    def without(self, units: set[int]) -> "FakeBatch":
        kept: dict[str, Any] = {
            name: [row for row in getattr(self, name) if self.unit(row[at]) not in units]
            for name, at in _FLOW_AT.items()
        }
        return replace(self, **kept)

    def split(self) -> "tuple[FakeBatch, FakeBatch] | None":
        units = self.units_present()
        middle = len(units) // 2
        return (self.without(set(units[middle:])), self.without(set(units[:middle]))) if middle else None


def merge(*batches: FakeBatch) -> FakeBatch:
    """One batch with the rows of several."""
    merged = FakeBatch()
    for batch, row_list in itertools.product(batches, [f.name for f in fields(FakeBatch)]):
        value = getattr(batch, row_list)
        if isinstance(value, list):
            getattr(merged, row_list).extend(value)
    return merged


def fid(number: int) -> bytes:
    """A flow id; higher is newer."""
    return number.to_bytes(16, "big")


def flow_row(flow_id: bytes, **columns: Any) -> Row:
    """A row of `FLOW_COLUMNS`."""
    values = {
        "flow_id": flow_id,
        "root_id": flow_id,
        "parent_id": None,
        "parent_step": None,
        "workflow": "w",
        "graph_id": GRAPH,
        "status": "running",
        "priority": 100,
        "fairness_key": "",
        "fairness_weight": 1.0,
        "time_budget_ms": 120_000,
        "thread_id": flow_id,
        "turn": 1,
        "tags": None,
        "input": "{}",
        "baggage": None,
        "trace_parent": None,
        "notify": None,
        "delete_on_completion": False,
        "position": None,
        "created_at": T0,
        "forked_from": None,
        "forked_step": None,
    }
    assert not columns.keys() - values.keys()
    return tuple((values | columns).values())


def live_row(flow_id: bytes, owner: int | None = None, **columns: Any) -> Row:
    """A row of `LIVE_COLUMNS`: owned with one claim, or unowned and ready."""
    values = {
        "flow_id": flow_id,
        "owner": owner,
        "claims": 0 if owner is None else 1,
        "crashes": 0,
        "priority": 100,
        "fairness_key": "",
        "fairness_weight": 1.0,
        "ready_at": T0 if owner is None else None,
        "wake_at": None,
        "mail": 0,
        "mail_at": None,
        "graph_id": GRAPH,
        "format": 1,
    }
    assert not columns.keys() - values.keys()
    return tuple((values | columns).values())


def created(flow_id: bytes, owner: int | None = None, **live: Any) -> FakeBatch:
    """A batch that creates one flow."""
    both = {
        name: live[name]
        for name in ("priority", "fairness_key", "fairness_weight", "graph_id")
        if name in live
    }
    return FakeBatch(flows=[flow_row(flow_id, **both)], live=[live_row(flow_id, owner, **live)])


def event_row(flow_id: bytes, number: int, event: str = "done", body: str = "{}", replica: int = 1) -> Row:
    """A row of `JOURNAL_COLUMNS`."""
    return (flow_id, number, number, "node", event, 0, replica, 1, 0, 1, T0, body)


def event(flow_id: bytes, number: int, **columns: Any) -> FakeBatch:
    """A batch with one event."""
    return FakeBatch(journal=[event_row(flow_id, number, **columns)])


def stopped(flow_id: bytes, owner: int, claims: int = 1, mail: int = 0) -> FakeBatch:
    """A batch that ends a flow."""
    return FakeBatch(
        stops=[("completed", '{"x":1}', None, None, "[]", T0 + 5, flow_id)],
        live_deletes=[(flow_id, owner, claims, mail)],
    )


def released(flow_id: bytes, owner: int, claims: int = 1, mail: int = 0, **at: int | None) -> FakeBatch:
    """A batch that releases a flow."""
    return FakeBatch(releases=[(at.get("ready_at"), at.get("wake_at"), flow_id, owner, claims, mail)])


def message(flow_id: bytes, body: str = "{}", kind: str = "signal") -> FakeBatch:
    """A batch with one message."""
    return FakeBatch(messages=[(flow_id, kind, body, None, T0 + 1)])


def verdict(flow_id: bytes, seq: int, at: int = T0 + 2) -> FakeBatch:
    """A batch that answers one message."""
    return FakeBatch(verdicts=[(at, '{"ok":true}', flow_id, seq)])


DONE = Committed()
