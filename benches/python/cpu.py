"""CPU time of process trees, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def read_stat(pid: int) -> tuple[int, int] | None:
    """Parent and CPU time (user and system, in ticks) of a process; None when it is gone."""
    try:
        # The name stands in parentheses and may hold anything; the fields after it are plain.
        _, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    except OSError:
        return None
    fields = rest.split()
    return int(fields[1]), int(fields[11]) + int(fields[12])


def read_all() -> dict[int, tuple[int, int]]:
    """Parent and CPU time of every process."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    found = ((pid, read_stat(pid)) for pid in pids)
    return {pid: stat for pid, stat in found if stat is not None}


def tree_of(root: int, processes: dict[int, tuple[int, int]]) -> set[int]:
    """A process and everything below it."""
    tree, grew = {root}, True
    while grew:
        children = {pid for pid, (parent, _) in processes.items() if parent in tree}
        grew = not children <= tree
        tree |= children
    return tree


class CpuMeter:
    """CPU seconds of this process, of the processes below it, and of a database server.

    A process that ends between two readings takes its time with it; none does in a measurement that is any good.
    """

    def __init__(self, database_pid: int | None) -> None:
        self.database_pid = database_pid
        self.last = self.read()

    def read(self) -> dict[str, dict[int, int]]:
        """Ticks by group and process."""
        processes = read_all()
        own = os.getpid()
        groups = {"engine": {own}, "workers": tree_of(own, processes) - {own}, "database": set()}
        if self.database_pid is not None:
            groups["database"] = tree_of(self.database_pid, processes)
        return {
            group: {pid: processes[pid][1] for pid in pids if pid in processes}
            for group, pids in groups.items()
        }

    def lap(self) -> dict[str, float]:
        """CPU seconds of each group since the lap before."""
        before, now = self.last, self.read()
        self.last = now
        return {
            group: sum(ticks - before[group].get(pid, 0) for pid, ticks in now[group].items())
            / TICKS_PER_SECOND
            for group in now
        }
