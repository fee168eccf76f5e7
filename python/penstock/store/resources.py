"""What replicas tell each other about the downstreams that tasks lean on."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock._core import merge_resource_states
from penstock.errors import CorruptJournal
from penstock.store.tables import resources

_log = logging.getLogger(__name__)


def read_resources(conn: Connection) -> list[tuple[str, str]]:
    """Read the state of every resource that was ever congested or away."""
    rows = conn.execute(sa.select(resources.c.resource, resources.c.state).order_by(resources.c.resource))
    return [(name, state) for name, state in rows]


def write_resources(
    conn: Connection, states: Mapping[str, str], now: int, insert_new: Callable[[sa.Table], Any]
) -> None:
    """Bring these states together with those that others have written meanwhile."""
    # In one order, so that two writers do not wait for each other.
    names = sorted(states)
    rows = [{"resource": name, "state": states[name], "updated_at": now} for name in names]
    conn.execute(insert_new(resources), rows)
    found = conn.execute(
        sa.select(resources.c.resource, resources.c.state)
        .where(resources.c.resource.in_(names))
        .order_by(resources.c.resource)
        .with_for_update()
    ).all()
    for name, known in found:
        merged = _merge(name, states[name], known)
        if merged != known:
            conn.execute(
                sa.update(resources).where(resources.c.resource == name).values(state=merged, updated_at=now)
            )


def _merge(name: str, mine: str, known: str) -> str:
    try:
        return merge_resource_states(mine, known)
    except CorruptJournal as error:
        _log.warning("The stored state of resource %s is replaced: %s", name, error)
        return mine
