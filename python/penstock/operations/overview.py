"""A tree of flows at a glance: whether anything changed, and how far it is."""

from __future__ import annotations

import hashlib
from collections import Counter

from penstock.operations.context import Context, unknown_flow
from penstock.operations.past import count, levels, read_past


def fingerprint(context: Context, key: str) -> str:
    """Hash how the flow's tree stands: whatever happens in it writes an event or a message."""
    row = context.store.outcome(context.flow_id(key))
    if row is None:
        raise unknown_flow(key)
    mark = (bytes(row.root_id).hex(), *context.store.mark(row.root_id))
    return hashlib.sha256(repr(mark).encode()).hexdigest()


def progress(context: Context, key: str) -> Counter[str]:
    """Count the steps of the flow and of all flows below it by status."""
    past = read_past(context, key)
    total: Counter[str] = Counter()
    for level in levels(context, past, count(context, past), count):
        for told in level.values():
            total.update(told["counts"])
    return total
