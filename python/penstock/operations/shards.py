"""What the databases hold."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from penstock.errors import EngineUnavailable
from penstock.outcome import ShardInfo

if TYPE_CHECKING:
    from penstock.operations.context import Context


def shards(context: Context) -> tuple[ShardInfo, ...]:
    """Look at every database; one that does not answer says so in its row."""
    begun = time.monotonic()
    error = None
    live = ready = replicas = 0
    try:
        live, ready, replicas = context.store.shard()
    except EngineUnavailable as outage:
        error = outage.message
    return (
        ShardInfo(
            index=context.shard,
            url=context.url,
            weight=1,
            is_cordoned=False,
            latency=timedelta(seconds=time.monotonic() - begun),
            live=live,
            ready=ready,
            replicas=replicas,
            error=error,
        ),
    )
