"""Which processes an engine consists of."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.outcome import ProcessInfo

if TYPE_CHECKING:
    from penstock.runtime.replica import Replica

#: Index of `starttime` among the fields of /proc/PID/stat that follow the process's name.
_START_TIME_FIELD = 19


def processes(replica: Replica) -> tuple[ProcessInfo, ...]:
    """Give the engine's own process, then the zygote, then the workers by number; those that have just gone are left out."""
    pool = replica.loop.pool
    found: list[tuple[str, int | None, int]] = [("engine", replica.store.replica_id, os.getpid())]
    if pool is not None:
        if pool.zygote_pid is not None:
            found.append(("zygote", None, pool.zygote_pid))
        found += [("worker", number, pid) for number, pid in sorted(pool.pids.items())]
    rows = [(kind, number, pid, _started_at(pid)) for kind, number, pid in found]
    return tuple(
        ProcessInfo(kind=kind, number=number, pid=pid, started_at=started_at)
        for kind, number, pid, started_at in rows
        if started_at is not None
    )


def _started_at(pid: int) -> datetime | None:
    """When a process was started, by the kernel's word; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        booted = Path("/proc/stat").read_text(encoding="ascii").partition("\nbtime ")[2].split()[0]
    except OSError:
        return None
    # The name stands in parentheses and may itself hold spaces and parentheses.
    ticks = int(stat.rpartition(")")[2].split()[_START_TIME_FIELD])
    return datetime.fromtimestamp(int(booted) + ticks / os.sysconf("SC_CLK_TCK"), UTC)
