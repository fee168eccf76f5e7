"""The zygote as the pool sees it: a child process behind a control socket."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable

from penstock.errors import EngineUnavailable
from penstock.workers.boot import Boot, bootstrap_environment
from penstock.workers.control import Control, Message
from penstock.workers.exit_codes import WorkerExit

_MODULE = "penstock.workers.zygote"
# An import that takes longer hangs, most likely on a network that is not there.
_IMPORT_SECONDS = 120.0
_REAP_SECONDS = 0.01


class ZygoteProcess:
    """Starts a zygote by exec, never by a fork of the possibly threaded host."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        boot: Boot,
        on_report: Callable[[Message], None],
        on_gone: Callable[[], None],
    ) -> None:
        """Make a zygote that `start` brings up; `on_gone` is called once, when it ended unasked."""
        self._loop = loop
        self._boot = boot
        self._on_report = on_report
        self._on_gone = on_gone
        self._ready: asyncio.Future[Message] = loop.create_future()
        self._is_up = False
        self._is_open = False
        self.pids: dict[int, int] = {}

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def start(self) -> Message:
        """Start it and wait until the app is imported.

        Returns:
            `tasks`, name to whether it is async, and `threads`, the names of those the import left.

        Raises:
            EngineUnavailable: The import failed, with its traceback, or the process did not come up.
        """
        mine, theirs = socket.socketpair()
        with theirs:
            self._process = self._popen(theirs.fileno())
        self._control = Control(mine)
        self._is_open = True
        self._loop.add_reader(mine, self._read)
        self.send({"boot": self._boot.as_dict()})
        try:
            async with asyncio.timeout(_IMPORT_SECONDS):
                message = await self._ready
        except TimeoutError:
            self._process.kill()
            await self.stop(1.0)
            raise EngineUnavailable(
                f"importing {self._boot.spec.target} in the zygote took more than {_IMPORT_SECONDS:.0f} s"
            ) from None
        except BaseException:
            self._process.kill()
            await self.stop(1.0)
            raise
        self._is_up = True
        return message

    def send(self, message: Message, *descriptors: int) -> bool:
        """Give an order; False when the zygote is gone."""
        return self._is_open and self._control.send(message, *descriptors)

    async def stop(self, timeout: float) -> None:
        """Close the control socket, whereupon it ends, and reap it."""
        self._is_up = False
        self._close()
        waited = 0.0
        while self._process.poll() is None:
            await asyncio.sleep(_REAP_SECONDS)
            waited += _REAP_SECONDS
            if waited > timeout:
                self._process.kill()

    def _popen(self, control_fd: int) -> subprocess.Popen[bytes]:
        if not sys.executable:
            raise EngineUnavailable(
                "this interpreter does not know its own path (sys.executable); use workers=0"
            )
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
        command = [sys.executable, *flags, "-P", "-m", _MODULE, str(control_fd), str(os.getpid())]
        try:
            return subprocess.Popen(
                command,
                pass_fds=(control_fd,),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=bootstrap_environment(),
            )
        except OSError as error:
            raise EngineUnavailable(f"the zygote cannot be started: {error}") from error

    def _read(self) -> None:
        messages = self._control.receive()
        if messages is None:
            self._on_end()
            return
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "ready":
            self._settle(message)
        elif kind == "failed":
            target = self._boot.spec.target
            self._fail(f"the app {target} cannot be imported: {message['error']}\n\n{message['traceback']}")
        elif kind == "started":
            self.pids[message["worker"]] = message["pid"]
        else:
            if kind == "exited":
                self.pids.pop(message["worker"], None)
            self._on_report(message)

    def _settle(self, message: Message) -> None:
        if not self._ready.done():
            self._ready.set_result(message)

    def _fail(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(EngineUnavailable(reason))

    def _on_end(self) -> None:
        self._close()
        was_up, self._is_up = self._is_up, False
        if was_up:
            self._loop.create_task(self.stop(1.0))
            self._on_gone()
        elif not self._ready.done():
            self._loop.create_task(self._fail_with_status())

    async def _fail_with_status(self) -> None:
        await self.stop(1.0)
        end = WorkerExit.from_status(_status(self._process.returncode))
        self._fail(f"the zygote ended before it was up: {end.reason}")

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._control.sock)
            self._control.close()


def _status(returncode: int) -> int:
    """The wait status of a Popen's return code."""
    return -returncode if returncode < 0 else returncode << 8
