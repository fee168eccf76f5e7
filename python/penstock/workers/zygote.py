"""The zygote, `python -m penstock.workers.zygote CONTROL_FD PARENT_PID`: imports the app once, then forks.

One thread for life, no connection and no core object, so that the last fork is as clean as the first. It
takes its orders from the pool's control socket and ends, its workers with it, when that is closed.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

from penstock.workers.boot import Boot, bootstrap_environment
from penstock.workers.control import Control, Message
from penstock.workers.exit_codes import ExitCode
from penstock.workers.process import (
    become_worker,
    close_all,
    die_with_parent,
    take_signals,
    thread_names,
)
from penstock.workers.tasks import AppTasks
from penstock.workers.worker import run_worker

Child = Callable[[], int]
"""What a forked worker does instead of returning to the zygote's loop."""


class Zygote:
    """The loop of the zygote."""

    def __init__(self, control: Control, boot: Boot, tasks: AppTasks, *, can_fork: bool) -> None:
        """Make the loop of an imported app; `can_fork` is whether the import left this thread alone."""
        self._control = control
        self._boot = boot
        self._tasks = tasks
        self._can_fork = can_fork
        self._pid = os.getpid()
        self._pids: dict[int, int] = {}
        self._execed: dict[int, subprocess.Popen[bytes]] = {}
        self._wake_read, self._wake_write = _wake_pipe()

    def serve(self) -> Child | None:
        """Follow orders until the control socket closes; in a forked child give what the child is to do."""
        poll = select.poll()
        poll.register(self._control.sock, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            poll.poll()
            self._reap()
            orders = self._control.receive()
            if orders is None:
                self._kill_all()
                return None
            for order in orders:
                child = self._follow(order)
                if child is not None:
                    return child

    def _follow(self, order: Message) -> Child | None:
        worker = order["worker"]
        if order["kind"] == "kill":
            if worker in self._pids:
                os.kill(self._pids[worker], signal.SIGKILL)
            return None
        fd = self._control.take_descriptor()
        child = self._launch(worker, fd)
        if child is None:
            os.close(fd)
        return child

    def _launch(self, worker: int, fd: int) -> Child | None:
        try:
            if self._can_fork:
                return self._fork(worker, fd)
            self._exec(worker, fd)
        except OSError as error:
            self._control.send({"kind": "refused", "worker": worker, "error": str(error)})
        return None

    def _fork(self, worker: int, fd: int) -> Child | None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            return lambda: self._be_worker(fd)
        self._started(worker, pid)
        return None

    def _be_worker(self, fd: int) -> int:
        signal.set_wakeup_fd(-1)
        die_with_parent(self._pid)
        close_all([*self._control.detach(), self._wake_read, self._wake_write])
        become_worker()
        return run_worker(socket.socket(fileno=fd), self._tasks, self._boot)

    def _exec(self, worker: int, fd: int) -> None:
        boot_read, boot_write = os.pipe()
        try:
            flags = sys.orig_argv[1 : sys.orig_argv.index("-m")]
            command = [sys.executable, *flags, "-m", "penstock.workers.worker"]
            child = subprocess.Popen(
                [*command, str(fd), str(boot_read), str(self._pid)],
                pass_fds=(fd, boot_read),
                stdin=subprocess.DEVNULL,
                env=bootstrap_environment(),
            )
        except BaseException:
            os.close(boot_write)
            raise
        finally:
            os.close(boot_read)
        with os.fdopen(boot_write, "w", encoding="utf-8") as file:
            json.dump(self._boot.as_dict(), file)
        self._execed[child.pid] = child
        self._started(worker, child.pid)

    def _started(self, worker: int, pid: int) -> None:
        self._pids[worker] = pid
        self._control.send({"kind": "started", "worker": worker, "pid": pid})

    def _reap(self) -> None:
        """Report the workers that ended; other children belong to what the app has imported."""
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        for worker, pid in list(self._pids.items()):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended, status = pid, 0
            if ended:
                del self._pids[worker]
                execed = self._execed.pop(pid, None)
                if execed is not None:
                    execed.returncode = os.waitstatus_to_exitcode(status)
                self._control.send({"kind": "exited", "worker": worker, "pid": pid, "status": status})

    def _kill_all(self) -> None:
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)


def _wake_pipe() -> tuple[int, int]:
    """A pipe that becomes readable when a child has ended."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return read, write


def _receive_boot(control: Control) -> Boot | None:
    while True:
        select.select([control.sock], [], [])
        messages = control.receive()
        if messages is None:
            return None
        if messages:
            return Boot.from_dict(messages[0]["boot"])


def _report(tasks: AppTasks) -> dict[str, Any]:
    threads = thread_names() if sys.platform == "linux" else ["(unknown: this platform does not fork safely)"]
    return {"kind": "ready", "tasks": tasks.table().report(), "threads": threads}


def main(arguments: list[str]) -> int:
    """Be a zygote, and then perhaps one of its workers."""
    control_fd, parent = map(int, arguments)
    die_with_parent(parent)
    take_signals()
    control = Control(socket.socket(fileno=control_fd))
    boot = _receive_boot(control)
    if boot is None:
        return ExitCode.PARENT_GONE
    boot.apply()
    try:
        tasks = AppTasks(boot.spec.load())
        ready = _report(tasks)
    except BaseException as error:  # noqa: BLE001 - an import may raise anything, SystemExit too
        told = "".join(traceback.format_exception(error))
        control.send({"kind": "failed", "error": f"{type(error).__name__}: {error}", "traceback": told})
        return ExitCode.BOOT_FAILED
    take_signals()
    zygote = Zygote(control, boot, tasks, can_fork=not ready["threads"])
    gc.collect()
    gc.freeze()
    control.send(ready)
    child = zygote.serve()
    return ExitCode.OK if child is None else child()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
