"""What a process of the pool does to itself first: die with its parent, let Ctrl-C pass, be the one to go."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from penstock.workers.exit_codes import ExitCode

_PR_SET_PDEATHSIG = 1
# The kernel, short of memory, is to take a worker before the zygote, and the zygote before the engine.
_WORKER_OOM_SCORE = 500
# A handler that waits for the interpreter's lock must not wait 5 ms for a task that computes.
_SWITCH_SECONDS = 0.0005
_POOL_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BLAS_LIMITS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends; Linux only.

    Args:
        parent: The pid of the process that is expected to be the parent.
    """
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(ExitCode.PARENT_GONE)


def take_signals() -> None:
    """Let the pool's signals pass without effect: stopping is asked for over the sockets.

    The handlers do nothing rather than being SIG_IGN, which the programs that tasks start would inherit.
    """
    for number in _POOL_SIGNALS:
        signal.signal(number, _pass)


def limit_library_threads() -> None:
    """Keep the numeric libraries from starting threads at their import, unless the host has decided."""
    for name in _BLAS_LIMITS:
        os.environ.setdefault(name, "1")


def become_worker() -> None:
    """Settle a fresh worker process, before its first task."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    take_signals()
    _raise_oom_score()
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
    sys.set_int_max_str_digits(0)
    sys.setswitchinterval(_SWITCH_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    gc.freeze()


def thread_names() -> list[str]:
    """The names of all threads of this process but the calling one; native ones are among them."""
    try:
        tasks = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()]
    except OSError:
        import threading

        return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return sorted(_native_name(task) for task in tasks)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that a fork has copied."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue


def _native_name(task: Path) -> str:
    import threading

    python = {thread.native_id: thread.name for thread in threading.enumerate()}
    try:
        return python.get(int(task.name)) or (task / "comm").read_text().strip()
    except OSError:
        return "a thread that ended meanwhile"


def _raise_oom_score() -> None:
    try:
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + _WORKER_OOM_SCORE)))
    except (OSError, ValueError):
        return


def _pass(_number: int, _frame: object) -> None:
    return
