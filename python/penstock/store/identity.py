"""Which process this is, so that another one can tell whether it still runs."""

import os
import socket
from pathlib import Path
from typing import NamedTuple

_START_TIME_FIELD = 19
"""Index of `starttime` among the fields of /proc/PID/stat that follow the process's name."""


class ProcessIdentity(NamedTuple):
    """A pid alone is reused; together with host, boot and start time it names one process for ever."""

    host: str
    boot_id: str
    pid: int
    process_start: int


def this_process() -> ProcessIdentity:
    """Read the identity of the calling process; what the system does not tell is "" or 0."""
    return ProcessIdentity(socket.gethostname(), _boot_id(), os.getpid(), _process_start())


def is_gone(process: ProcessIdentity) -> bool:
    """Whether a process has certainly ended; one of another host may run, as far as anybody here can tell."""
    if process.host != socket.gethostname() or not process.boot_id:
        return False
    return process.boot_id != _boot_id() or process.process_start != _process_start(process.pid)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _process_start(pid: int | None = None) -> int:
    try:
        stat = Path(f"/proc/{pid or 'self'}/stat").read_text()
    except OSError:
        return 0
    # The name stands in parentheses and may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    # A process that has ended and was not waited for yet still has an entry.
    return 0 if fields[0] == "Z" else int(fields[_START_TIME_FIELD])
