"""A host in a process of its own, so that a test can kill it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
#: In the environment of every process of a host: the zygote leads a session of its own.
MARK = "PENSTOCK_TEST_HOST"


class Host:
    """A running Python process, the leader of a process group of its own; its output goes to files."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.mark = uuid.uuid4().hex
        self.output_path = folder / "output.txt"
        with self.output_path.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", MARK: self.mark, **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the host itself."""
        return self.process.pid

    def output(self) -> str:
        """Everything it has printed so far."""
        return self.output_path.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, fact: Callable[[], object], *, what: str, deadline: float = 30.0) -> None:
        """Wait until `fact` is truthy; a host that has ended cannot make it so any more."""

        def is_so() -> bool:
            has_ended = self.process.poll() is not None
            answer = bool(fact())
            assert answer or not has_ended, f"the host ended before {what}:\n{self.output()}"
            return answer

        eventually(is_so, what=what, deadline=deadline)

    def wait_for_output(self, text: str, *, deadline: float = 30.0) -> str:
        """Wait until `text` stands in the output, and return the output."""
        self.wait_for(lambda: text in self.output(), what=f"{text!r} in the host's output", deadline=deadline)
        return self.output()

    def wait(self, *, deadline: float = 60.0) -> int:
        """Wait until it has ended, and return its exit code."""
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the host still runs after {deadline:g} s:\n{self.output()}") from None

    def kill(self) -> None:
        """Kill the host, and only it, as the kernel would: -9. Its workers have to notice for themselves."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def members(self) -> list[int]:
        """Process ids of what runs of it: the host, its zygote and its workers."""
        processes = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        mark = f"{MARK}={self.mark}".encode()
        return sorted(int(entry.name) for entry in processes if mark in _environment_of(entry))


def _environment_of(entry: Path) -> list[bytes]:
    """What a process was started with; nothing of one that is gone, a zombie or another user's."""
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


@contextlib.contextmanager
def run_host(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Host]:
    """Run `python ARGUMENTS…` from the root of the repository; nothing of it outlives the block."""
    host = Host(arguments, folder, environment or {})
    try:
        yield host
    finally:
        for pid in host.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        host.process.wait()
