"""The columns of a batch, as `_core.Batch.arrays` gives them, and arrays in PostgreSQL's binary format."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

_HEADER = struct.Struct("!iiIii")
_LENGTH = struct.Struct("!i")
_LONG = struct.Struct("!iq")

BYTEA, INT8, UUID = 17, 20, 2950


class Group(NamedTuple):
    """Columns that are unnested together; `u` is the unit of the row, -1 for none."""

    name: str
    columns: tuple[tuple[str, str], ...]


def _group(name: str, columns: str) -> Group:
    pairs = (column.split() for column in f"u int4, {columns}".split(", "))
    return Group(name, tuple((column, kind) for column, kind in pairs))


GROUPS = (
    _group(
        "creates",
        "flow_id uuid, root_id uuid, parent_id uuid, parent_step int8, workflow text, graph_id bytea, status text, "
        "priority int4, fairness_key text, fairness_weight float8, time_budget_ms int8, thread_id uuid, turn int4, "
        "tags text, input text, baggage text, trace_parent text, notify text, delete_on_completion bool, "
        "position text, created_at int8, forked_from uuid, forked_step int8, owner int8, claims int8, crashes int4, "
        "ready_at int8, wake_at int8, mail int8, mail_at int8, format int2",
    ),
    _group(
        "journal",
        "flow_id uuid, ord int8, step int8, node text, event text, attempt int4, worker int8, queued_ms int8, "
        "ran_ms int8, at int8, body text",
    ),
    _group(
        "touched",
        "flow_id uuid, is_owned bool, claims int8, seen int8, messages int4, message_at int8, is_released bool, "
        "ready_at int8, wake_at int8, is_calmed bool, is_deleted bool, is_answered bool",
    ),
    _group("messages", "flow_id uuid, number int4, kind text, body text, sender text, at int8"),
    _group(
        "stops",
        "flow_id uuid, status text, output text, error text, cancel_reason text, position text, at int8",
    ),
    _group("statuses", "flow_id uuid, status text, position text, at int8"),
    _group("verdicts", "flow_id uuid, seq int8, at int8, verdict text"),
    _group(
        "interrupts",
        "interrupt_id uuid, flow_id uuid, root_id uuid, step int8, node text, kind text, key text, payload text, "
        "created_at int8, expires_at int8",
    ),
    _group("interrupt_deletes", "interrupt_id uuid"),
    _group("outbox", "topic text, flow_id uuid, ord int8, body text"),
)
"""In the order of `penstock_core::batch::arrays::KINDS`: bit n of a batch's `kinds` stands for the n-th."""


def uuid_array(ids: Iterable[bytes]) -> bytes:
    """A `uuid[]`."""
    return _array(UUID, ids)


def bytea_array(values: Iterable[bytes]) -> bytes:
    """A `bytea[]`."""
    return _array(BYTEA, values)


def long_array(values: Iterable[int]) -> bytes:
    """An `int8[]`."""
    elements = [_LONG.pack(8, value) for value in values]
    return _HEADER.pack(1, 0, INT8, len(elements), 1) + b"".join(elements)


def _array(element: int, values: Iterable[bytes]) -> bytes:
    elements = [_LENGTH.pack(len(value)) + value for value in values]
    return _HEADER.pack(1, 0, element, len(elements), 1) + b"".join(elements)
