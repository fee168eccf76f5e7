"""The app of the client's tests, and an engine over it in a process of its own."""

from __future__ import annotations

import signal
import sys
from typing import Any

from penstock import App, Engine, Flow

app = App("client")


@app.task
def double(n: int) -> dict[str, Any]:
    return {"n": 2 * n}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt({"question": "go on?"})}


app.graph("double").chain(double)
app.graph("ask").chain(ask, double)
app.graph("sums").chain(double).reducer("total", "add")


def main() -> None:
    """Run an engine until the process is told to end."""
    with Engine(app, sys.argv[1]):
        print("engine runs")
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
