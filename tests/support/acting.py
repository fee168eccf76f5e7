"""A task that does what the flow's input says, so that a test shows graph, orders and result side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock import App, Engine, Flow, Graph, Outcome
from penstock.errors import Permanent

Order = list[Any]


def act(flow: Flow) -> dict[str, Any] | None:
    """Obey the orders for this node: `do[node]`, or those of the branch's element where they are `"item"`."""
    orders = flow.get("do", default={}).get(flow.node, [])
    if isinstance(orders, str):
        orders = flow[orders]["do"]
    for name, *arguments in orders:
        if name == "return":
            return dict(arguments[0])
        ORDERS[name](flow, *arguments)
    return None


def _set(flow: Flow, field: str, value: Any) -> None:
    flow[field] = value


def _copy(flow: Flow, source: str, target: str) -> None:
    flow[target] = flow.get(source)


def _contribute(flow: Flow, source: str, target: str) -> None:
    flow[target] = [flow.get(source)]


def _increase(flow: Flow, field: str) -> None:
    flow[field] = flow.get(field, default=0) + 1


def _note_fields(flow: Flow, target: str) -> None:
    flow[target] = sorted(name for name in flow if name != "do")


def _goto_below(flow: Flow, node: str, field: str, bound: int) -> None:
    if flow.get(field, default=0) < bound:
        flow.goto(node)


def _fail(flow: Flow, code: str) -> None:
    raise Permanent(code, f"{code} at {flow.node}")


def _fail_if(flow: Flow, field: str, value: Any) -> None:
    if flow[field] == value:
        _fail(flow, "broken")


def _fail_below(flow: Flow, field: str, bound: int) -> None:
    if flow.get(field, default=0) < bound:
        _fail(flow, "too few")


def _fail_at(flow: Flow, attempt: int, code: str) -> None:
    if flow.attempt == attempt:
        _fail(flow, code)


def _fail_first(flow: Flow, attempts: int) -> None:
    if flow.attempt < attempts:
        raise ValueError(f"attempt {flow.attempt}")


def _again_first(flow: Flow, attempts: int) -> None:
    if flow.attempt < attempts:
        flow.retry(0)


def _set_at(flow: Flow, attempt: int, field: str, value: Any) -> None:
    if flow.attempt == attempt:
        flow[field] = value


def _withdraw_after_answer(flow: Flow, field: str, value: Any) -> None:
    flow[field] = value
    flow.interrupt()
    flow[field] = None


def _delete(flow: Flow, field: str) -> None:
    del flow[field]


def _typed(flow: Flow, field: str) -> None:
    flow["typed"] = flow.get(field, int)


ORDERS: dict[str, Callable[..., object]] = {
    "set": _set,
    "set_at": _set_at,
    "withdraw_after_answer": _withdraw_after_answer,
    "copy": _copy,
    "overwrite": Flow.overwrite,
    "del": _delete,
    "clear": Flow.clear,
    "contribute": _contribute,
    "increase": _increase,
    "fields": _note_fields,
    "typed": _typed,
    "goto": Flow.goto,
    "goto_below": _goto_below,
    "fail": _fail,
    "fail_if": _fail_if,
    "fail_below": _fail_below,
    "fail_at": _fail_at,
    "fail_first": _fail_first,
    "again_first": _again_first,
    "ask": Flow.interrupt,
    "nan": lambda flow, value: _set(flow, "bad", {"deep": [float(value)]}),
}


def acting(app: App, name: str, nodes: str, **options: dict[str, Any]) -> Graph:
    """Add a graph whose nodes, given in one string, all run the task; a node may have options."""
    if "act" not in app.tasks():
        app.task(act, name="act")
    graph = app.graph(name)
    for node in nodes.split():
        graph.node(node, "act", **options.get(node, {}))
    return graph


def go(
    engine: Engine, workflow: str, do: dict[str, list[Order] | str] | None = None, **state: Any
) -> Outcome:
    """Run a flow to its stop."""
    return engine.run(workflow, {"do": do or {}, **state}, timeout=20)


def done(
    engine: Engine, workflow: str, do: dict[str, list[Order] | str] | None = None, **state: Any
) -> dict[str, Any]:
    """Run a flow to its completion and give its final state without the orders."""
    outcome = go(engine, workflow, do, **state)
    assert (outcome.status, outcome.error) == ("completed", None)
    return {name: value for name, value in outcome.state.items() if name != "do"}


def failed(
    engine: Engine, workflow: str, do: dict[str, list[Order] | str] | None = None, **state: Any
) -> tuple[str, str]:
    """Run a flow to its failure and give the error's code and node."""
    outcome = go(engine, workflow, do, **state)
    assert outcome.status == "failed"
    assert outcome.error is not None
    return outcome.error.code, outcome.error.node


def visits(engine: Engine, outcome: Outcome) -> list[str]:
    """The nodes of a flow's steps, in the order in which the steps were made."""
    return [step.node for step in engine.history(outcome.key)]
