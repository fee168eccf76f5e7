"""A host one of whose tasks kills the host itself, as one that eats all memory would."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from penstock import App, Engine
from penstock.errors import WaitTimeout

app = App("killer")


@app.task
def kill_the_host() -> dict[str, Any]:
    """Kill the parent of the worker's zygote, and never come back."""
    zygote = Path(f"/proc/{os.getppid()}/stat").read_text()
    os.kill(int(zygote.rpartition(") ")[2].split()[1]), signal.SIGKILL)
    threading.Event().wait()
    return {}


@app.task
def live() -> dict[str, Any]:
    """Do no harm."""
    return {"lived": True}


app.graph("killer").chain(kill_the_host)
app.graph("harmless").chain(live)


def main() -> None:
    """Create one flow of each graph unless they are there, and wait for both; print how they ended."""
    with Engine(app, sys.argv[1], workers=1) as engine:
        keys = [engine.create(name, idempotency_key=name) for name in ("harmless", "killer")]
        for key in keys:
            try:
                outcome = engine.wait(key, timeout=20)
            except WaitTimeout:
                print(key, "late")
            else:
                print(outcome.workflow, outcome.status, outcome.error and outcome.error.code, flush=True)


if __name__ == "__main__":
    main()
