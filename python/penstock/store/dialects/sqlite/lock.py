"""One engine per SQLite file, held by a lock on a file beside it.

The database file itself is never opened by hand: closing any descriptor of it would drop the locks that SQLite
holds on it for the whole process.
"""

import fcntl
import os
from pathlib import Path

from penstock.errors import EngineUnavailable


class EngineLock:
    """The lock file of one database. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.with_name(database.name + ".lock")
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock and write the pid into it; nothing to do when it is held already.

        Raises:
            EngineUnavailable: Another engine holds it; the message names its pid.
        """
        if self._fd >= 0:
            return
        try:
            # Python opens files close-on-exec, so that no child keeps the lock alive.
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise EngineUnavailable(
                f"The lock file {self._path} cannot be opened: {error.strerror}."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise EngineUnavailable(
                f"The database {self._database} is held by another engine (process {holder}); "
                "SQLite serves one engine at a time."
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let go; the file stays, because removing it would let two engines lock two files of one name. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
