"""Flows with many steps."""

from __future__ import annotations

from typing import Any

from penstock import App, Flow, current_flow

app = App("flows")


@app.task
def spread(n: int) -> dict[str, Any]:
    """Make the elements that `wide` goes over, and a field that nobody has to see."""
    return {"items": list(range(n)), "ballast": "x" * 1_000_000}


@app.task
def add(item: int, factor: int = 1) -> dict[str, int]:
    return {"total": item * factor}


@app.task
def look(flow: Flow, item: int) -> dict[str, Any]:
    """Read what the frame did not carry: the array in each tenth branch, in every other way."""
    if item % 10 == 0:
        return {"total": flow["items"][item]}
    if item % 10 == 1:
        return {"total": len(current_flow().get("ballast", str))}
    return {"total": flow["item_count"]}


@app.task
async def look_async(flow: Flow, item: int) -> dict[str, int]:
    """See everything without waiting."""
    return {"total": flow["items"][item]}


@app.task
async def add_async(flow: Flow, item: int, factor: int = 1) -> dict[str, int]:
    """Look for what is not there, which costs nothing."""
    return {"total": item * factor + flow.get("more", int, 0)}


@app.task
def pass_on(item: int) -> dict[str, int]:
    return {"passed": item}


@app.task
def add_passed(passed: int) -> dict[str, int]:
    return {"total": passed}


@app.task
def count(flow: Flow, i: int, n: int) -> dict[str, int]:
    if i + 1 < n:
        flow.goto("count")
    return {"i": i + 1}


@app.task
def finish(total: int) -> None: ...


@app.task
def lap(flow: Flow, i: int, n: int) -> dict[str, Any]:
    if i + 1 < n:
        flow.goto("lap")
    return {"i": i + 1, "log": [i]}


for name, task in (
    ("wide", add),
    ("looking", look),
    ("looking_async", look_async),
    ("wide_async", add_async),
):
    graph = app.graph(name).reducer("total", "add")
    graph.for_each(spread, task, over="items").edge(task, finish).fan_in(finish)

relay = app.graph("relay").reducer("total", "add").for_each(spread, pass_on, over="items")
relay.edge(pass_on, add_passed).edge(add_passed, finish).fan_in(finish)

app.graph("counting").node("count").goto("count", "count").edge("count", "END")
app.graph("laps").node("lap").goto("lap", "lap").edge("lap", "END").reducer("log", "append")
