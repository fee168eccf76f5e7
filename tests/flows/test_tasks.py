"""What may stand for a task: made functions, lambdas, partials, objects; in threads and in worker processes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass

from penstock import App, Engine, Flow

app = App("tasks")


def make(name: str) -> Callable[[Flow], None]:
    def task(flow: Flow) -> None:
        flow["log"] = name

    return task


for graph in (app.graph("made"), app.graph("made_too")):
    graph.reducer("log", "append").chain("first", "second", "third")
    for node in ("first", "second", "third"):
        graph.node(node, make(f"{graph.name} {node}"))


def scale(flow: Flow, factor: int) -> None:
    flow["n"] = flow.get("n", int, 0) * factor


class Add:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, flow: Flow) -> None:
        flow["n"] = flow.get("n", int, 0) + self.n

    def again(self, flow: Flow) -> None:
        self(flow)


class AddLater(Add):
    async def __call__(self, flow: Flow) -> None:
        await asyncio.sleep(0)
        super().__call__(flow)


objects = app.graph("objects")
objects.chain("object", "later", "method", "partial", "lambda", "last")
objects.node("object", Add(1))
objects.node("later", AddLater(2))
objects.node("method", Add(3).again)
objects.node("partial", functools.partial(scale, factor=10))
objects.node("lambda", lambda flow: flow.update(seen=flow["n"]))
objects.node("last", lambda n, flow=None: {"bound": [n, flow]})


@dataclass
class Line:
    sku: str


@dataclass
class Order:
    lines: list[Line]
    n: int = 0


app.graph("nothing").node("nothing", lambda: None)


def test_functions_of_one_name_run_in_nodes_and_graphs_of_their_own(engine: Engine) -> None:
    for workflow in ("made", "made_too"):
        done = engine.run(workflow, timeout=10)
        assert done.state == {"log": [f"{workflow} {node}" for node in ("first", "second", "third")]}


def test_any_callable_is_a_task_and_goes_by_its_node_when_it_has_no_name(engine: Engine) -> None:
    done = engine.run("objects", timeout=10)
    assert done.state == {"n": 60, "seen": 60, "bound": [60, None]}, done.error
    tasks = [step.task for step in engine.history(done.key)]
    assert tasks == [
        "objects.object",
        "objects.later",
        "again",
        "objects.partial",
        "objects.lambda",
        "objects.last",
    ]


def test_a_dataclass_is_an_input_with_its_fields(engine: Engine) -> None:
    done = engine.run("nothing", Order([Line("a")]), timeout=10)  # type: ignore[arg-type]  # is the subject
    assert done.state == {"lines": [{"sku": "a"}], "n": 0}
