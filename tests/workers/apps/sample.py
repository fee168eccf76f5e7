"""An app whose tasks show what a worker does with them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from penstock import App
from penstock.errors import Permanent, RateLimited
from penstock.flow import Flow, current_flow

app = App("sample")


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
async def double_async(n: int) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"n": 2 * n}


@app.task
def whoami() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "session": os.getsid(0),
        "oom": int(Path("/proc/self/oom_score_adj").read_text()),
        "blas": os.environ["OPENBLAS_NUM_THREADS"],
        "sockets": _sockets(),
        "argv": sys.argv,
    }


def _sockets() -> int:
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(str(link).startswith("socket:") for link in links)


@app.task
def wait_for(path: str, started: str) -> dict[str, int]:
    """Say that it runs, then run until the file is there."""
    Path(started).write_text(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.002)
    return {"pid": os.getpid()}


@app.task
def wait_for_cancel(started: str, flow: Flow) -> dict[str, bool]:
    Path(started).write_text("x")
    while not flow.is_cancelled:
        time.sleep(0.002)
    return {"cancelled": True}


@app.task
async def wait_forever(started: str) -> None:
    Path(started).write_text("x")
    await asyncio.Event().wait()


@app.task
def leave(how: str) -> None:
    if how == "exit":
        raise SystemExit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "os._exit":
        os._exit(9)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
async def leave_async(how: str) -> None:
    async def leave_from_a_child_task() -> None:
        leave(how)

    await asyncio.create_task(leave_from_a_child_task())


@app.task
def fail(kind: str) -> None:
    if kind == "permanent":
        raise Permanent("no_card", "the card is gone", data={"card": 7})
    if kind == "limited":
        raise RateLimited(1.5)
    raise ValueError("\ud800 is no text")


@app.task
async def ask_together(flow: Flow) -> dict[str, Any]:
    async def child(name: str) -> Any:
        return current_flow().subgraph("child", {"name": name})

    flow["before"] = 1
    answers = await asyncio.gather(child("a"), child("b"))
    flow["after"] = 1
    return {"answers": answers}


@app.task
async def run_a_program() -> dict[str, str]:
    process = await asyncio.create_subprocess_exec("echo", "hello", stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return {"out": out.decode()}


@app.task
def leave_a_process(path: str) -> None:
    """Leave a process behind that holds copies of the descriptors, and its pid in a file; then die."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    Path(path).write_text(str(pid))
    os._exit(1)


@app.task
def echo(flow: Flow) -> dict[str, Any]:
    return flow.as_dict()


@app.task
def read_rest(flow: Flow, how: str) -> dict[str, Any]:
    """Read a field that the frame does not have to carry."""
    if how == "carrier":
        return {"found": flow["big"]}
    if how == "current":
        return {"found": current_flow().get("big")}
    if how == "thread":
        context = contextvars.copy_context()
        with ThreadPoolExecutor(2) as threads:
            found = [threads.submit(context.copy().run, lambda: current_flow()["big"]) for _ in range(2)]
            return {"found": found[0].result() if found[1].result() else None}
    return {"found": flow.as_dict()["big"]}


@app.task
async def read_rest_async(flow: Flow, how: str) -> dict[str, Any]:
    """The same on the worker's own loop."""
    await asyncio.sleep(0)
    if how == "thread":
        return {"found": await asyncio.to_thread(lambda: flow["big"])}
    return {"found": flow["big"] if how == "carrier" else flow.as_dict()["big"]}


kept: list[Flow] = []


@app.task
def keep_flow(flow: Flow) -> None:
    """Leave the carrier behind for `read_kept`."""
    kept.append(flow)


@app.task
def read_kept() -> dict[str, Any]:
    return {"found": kept[-1]["big"]}


@app.task
async def read_kept_async() -> dict[str, Any]:
    return {"found": kept[-1]["big"]}


@app.task
def speak() -> None:
    print("a task speaks")
