"""A worker process: sync tasks on the main thread, the socket and async tasks on a second one.

Also `python -m penstock.workers.worker SOCKET_FD BOOT_FD PARENT_PID`, for apps whose import leaves threads
that a fork would lose.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import traceback

from penstock.workers.boot import Boot
from penstock.workers.exit_codes import ExitCode
from penstock.workers.process import become_worker, die_with_parent
from penstock.workers.runner import Runner
from penstock.workers.tasks import AppTasks, Tasks


def run_worker(sock: socket.socket, tasks: Tasks, boot: Boot) -> int:
    """Run a settled worker process to its end and give its exit code."""
    threads = boot.threads
    runner = Runner(sock, tasks, threads, boot.now())
    _forget_in_children(sock)
    loop_thread = threading.Thread(target=_serve, args=(runner,), name="penstock-worker-loop")
    loop_thread.start()
    for number in range(1, threads):
        threading.Thread(target=runner.run_sync, name=f"penstock-task-{number}", daemon=True).start()
    runner.run_sync()
    loop_thread.join()
    return ExitCode.OK


def _serve(runner: Runner) -> None:
    try:
        runner.serve(lambda: _end(runner))
    except BaseException:  # noqa: BLE001 - without its loop the worker is deaf
        traceback.print_exc()
        _exit(ExitCode.INTERNAL)


def _end(runner: Runner) -> None:
    """End the process at once: nobody is left to take a result."""
    if runner.broken is not None:
        print(f"penstock worker {os.getpid()}: {runner.broken}", file=sys.stderr)  # noqa: T201 - its only voice
        _exit(ExitCode.BROKEN_STREAM)
    _exit(ExitCode.ENGINE_GONE)


def _exit(code: ExitCode) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


def _forget_in_children(sock: socket.socket) -> None:
    """Close the socket in processes that a task forks, or the engine would not see this one's end."""
    fd, worker = sock.fileno(), os.getpid()

    def close_copy() -> None:
        if os.getppid() == worker:  # further down the number may stand for another file
            os.close(fd)

    os.register_at_fork(after_in_child=close_copy)


def main(arguments: list[str]) -> int:
    """Be an exec'ed worker."""
    sock_fd, boot_fd, parent = map(int, arguments)
    die_with_parent(parent)
    with os.fdopen(boot_fd, encoding="utf-8") as file:
        boot = Boot.from_dict(json.load(file))
    boot.apply()
    try:
        tasks = AppTasks(boot.spec.load())
        tasks.table()
    except BaseException:  # noqa: BLE001 - an import may raise anything, SystemExit too
        traceback.print_exc()
        return ExitCode.BOOT_FAILED
    become_worker()
    return run_worker(socket.socket(fileno=sock_fd), tasks, boot)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
