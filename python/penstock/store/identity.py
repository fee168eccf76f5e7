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


def is_gone(host: str, boot_id: str, pid: int, process_start: int) -> bool:
    """Whether that process is known not to run any more; of another host, or of a system that tells nothing, it is not."""
    here = this_process()
    if host != here.host or not (boot_id and process_start and here.boot_id):
        return False
    boot, _, namespace = boot_id.partition("/")
    if boot != here.boot_id.partition("/")[0]:
        return True
    # In another container of the same machine the same pid is another process.
    return boot_id == here.boot_id and bool(namespace) and _process_start(pid) != process_start


def _boot_id() -> str:
    """The boot of the machine and the namespace in which the pid means something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
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
