"""How a worker or a zygote ended, in numbers for the parent and a sentence for people."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes that Penstock's own processes choose."""

    OK = 0
    """It was asked to stop and had finished its work."""
    BOOT_FAILED = 70
    """The app could not be imported or is not an app."""
    ENGINE_GONE = 71
    """The socket to the engine was closed: there is nobody to work for."""
    BROKEN_STREAM = 72
    """The engine's bytes were no frames."""
    PARENT_GONE = 73
    """The process that started it had ended before it was up."""
    INTERNAL = 74
    """An error of Penstock's own; the traceback is on standard error."""

    @property
    def sentence(self) -> str:
        """What the code says about the process."""
        return _SENTENCES[self]


_SENTENCES = {
    ExitCode.OK: "it stopped as it was asked to",
    ExitCode.BOOT_FAILED: "it could not import the app",
    ExitCode.ENGINE_GONE: "its engine was gone",
    ExitCode.BROKEN_STREAM: "it could not read what the engine sent",
    ExitCode.PARENT_GONE: "its parent was gone before it was up",
    ExitCode.INTERNAL: "it met an internal error, whose traceback is on standard error",
}


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """Why a worker is gone.

    Attributes:
        exit_code: None when a signal ended it, or nobody knows.
        signal: None when it exited by itself, or nobody knows.
        reason: A sentence.
    """

    exit_code: int | None
    signal: int | None
    reason: str

    @classmethod
    def from_status(cls, status: int, why: str = "") -> WorkerExit:
        """Read a wait status; `why` is what the engine knows, as that it was killed on purpose."""
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return cls(None, -code, f"the worker was killed by {_signal_name(-code)}{_because(why, -code)}")
        return cls(code, None, f"the worker exited with code {code}: {why or _exit_sentence(code)}")

    @classmethod
    def unknown(cls, why: str) -> WorkerExit:
        """Make the exit of a worker whose end nobody reported."""
        return cls(None, None, f"the worker closed its socket: {why}")


def _exit_sentence(code: int) -> str:
    try:
        return ExitCode(code).sentence
    except ValueError:
        return "a task ended the process, for example by os._exit"


def _because(why: str, number: int) -> str:
    if why:
        return f": {why}"
    return ", from outside or by the kernel for want of memory" if number == signal.SIGKILL else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
