"""Tasks that a test can hold, and that write down when they start and end, independent of any database."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from penstock import App, Flow
from penstock.errors import Permanent
from tests.support.host import MARK
from tests.support.ledger import note

app = App("faults")

PARTS = 4
#: What a flow of `counted` has counted, and where, once each of its steps has been folded in exactly once.
EXPECTED_COUNT = PARTS + 4
EXPECTED_TRAIL = ["first", *(f"part {number}" for number in range(PARTS)), "join", "lap", "last"]


def enter(flow: Flow, ledger: str, event: str) -> None:
    """Write a line for this attempt."""
    about = {"step": flow.step_key, "node": flow.node, "event": event}
    note(ledger, **about, at=time.time(), pid=os.getpid(), host=os.environ.get(MARK))


@app.task
def hold(flow: Flow, ledger: str, gate: str) -> dict[str, Any]:
    """Run until the gate is there."""
    enter(flow, ledger, "start")
    while not Path(gate).exists():
        time.sleep(0.002)
    enter(flow, ledger, "end")
    return {"count": 1}


@app.task
def count(flow: Flow, ledger: str, item_index: int | None = None, pause: float = 0.0) -> dict[str, Any]:
    """Contribute one to the count and a line to the trail."""
    enter(flow, ledger, "start")
    time.sleep(pause)
    place = flow.node if item_index is None else f"{flow.node} {item_index}"
    enter(flow, ledger, "end")
    return {"count": 1, "trail": [place]}


@app.task
def poison(flow: Flow, ledger: str) -> None:
    """Take the worker along."""
    enter(flow, ledger, "start")
    os._exit(9)


@app.task
def refuse(flow: Flow, ledger: str) -> None:
    """Fail for good."""
    enter(flow, ledger, "start")
    raise Permanent("refused_by_task", "no")


@app.task
def note_error(on_error: dict[str, Any]) -> dict[str, Any]:
    """Keep the code of the error."""
    return {"code": on_error["code"]}


@app.task
def ask(flow: Flow, ledger: str) -> dict[str, Any]:
    """Wait for an answer, which frees the flow for whoever wants it."""
    enter(flow, ledger, "start")
    answer = flow.interrupt("well?")
    enter(flow, ledger, "answered")
    return {"count": answer}


app.graph("asking").node("before", count).node("ask", ask).node("after", count).chain(
    "before", "ask", "after"
).reducer("count", "add").reducer("trail", "append")
app.graph("held").node("gate", hold).node("middle", count).node("last", count).chain(
    "gate", "middle", "last"
).reducer("count", "add").reducer("trail", "append")
app.graph("held_late").node("early", count).node("late", hold).chain("early", "late").reducer(
    "count", "add"
).reducer("trail", "append")
app.graph("hold").chain(hold).reducer("count", "add")
app.graph("poison").chain(poison)
app.graph("poison_routed").chain(poison).on_error(poison, note_error)

counted = app.graph("counted").reducer("count", "add").reducer("trail", "append")
for node in ("first", "part", "join", "lap", "last"):
    counted.node(node, count)
counted.for_each("first", "part", over="parts").edge("part", "join").fan_in("join").chain(
    "join", "lap", "last"
)
counted.entry("first")
