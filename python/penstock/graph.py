"""Graphs as authors write them: nodes, edges and what they ask of the engine.

The builder only collects. What a graph means, and every rule about it, is the core's: `validate` asks the core, and so
does whoever takes the graph. Only what could not even be written down is refused at once.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

from penstock import _core
from penstock.errors import Invalid
from penstock.options import Duration, duration_ms
from penstock.outcome import Json

#: Ends a branch where a target is expected.
END: Final = "END"

#: A node by its name, or the function that it runs.
NodeRef: TypeAlias = str | Callable[..., object]

Direction: TypeAlias = Literal["LR", "RL", "TB", "BT"]


@dataclass(frozen=True, slots=True)
class Retry:
    """Declared retries of a node: exponential delays, from `initial` up to `max_interval`.

    They act before `on_error`, on every error but `Permanent`, `RateLimited` and `Unavailable`.

    Attributes:
        max_attempts: Attempts in all; the first one counts.
        initial: The delay before the second attempt.
        multiplier: The factor from one delay to the next, at least 1.
        max_interval: No delay is longer.
        give_up_after: No attempt starts later than this after the step was made.
        jitter: The part of each delay, 0 to 1, that chance may take away.
        on: Error codes or exception types that are retried, a type by its name and with its subclasses; empty: all.
        not_on: Those that are not; stronger than `on`.

    Raises:
        Invalid: A value is outside its range.
    """

    max_attempts: int
    initial: Duration
    multiplier: float = 2
    max_interval: Duration | None = None
    give_up_after: Duration | None = None
    jitter: float = 0.1
    on: tuple[str | type[BaseException], ...] = ()
    not_on: tuple[str | type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        _check_count(self.max_attempts, "Retry.max_attempts")
        _check_number(self.multiplier, "Retry.multiplier", 1, math.inf)
        _check_number(self.jitter, "Retry.jitter", 0, 1)
        object.__setattr__(self, "on", _error_names(self.on, "Retry.on"))
        object.__setattr__(self, "not_on", _error_names(self.not_on, "Retry.not_on"))
        self._to_json()

    def _to_json(self) -> dict[str, Json]:
        written: dict[str, Json] = {
            "max_attempts": self.max_attempts,
            "initial_ms": duration_ms(self.initial, "Retry.initial"),
            "multiplier": float(self.multiplier),
        }
        if self.max_interval is not None:
            written["max_interval_ms"] = _positive_ms(self.max_interval, "Retry.max_interval")
        if self.give_up_after is not None:
            written["give_up_after_ms"] = _positive_ms(self.give_up_after, "Retry.give_up_after")
        written["jitter"] = float(self.jitter)
        written |= {key: list(names) for key, names in (("on", self.on), ("not_on", self.not_on)) if names}
        return written


@dataclass(frozen=True, slots=True)
class Tolerate:
    """Let up to `n` failed branches of a cohort join without contributing."""

    n: int

    def __post_init__(self) -> None:
        _check_count(self.n, "Tolerate")


@dataclass(frozen=True, slots=True)
class First:
    """Join a cohort after `n` arrivals, and cancel the rest."""

    n: int

    def __post_init__(self) -> None:
        _check_count(self.n, "First")


OnFailure: TypeAlias = Literal["drain", "fail_fast"] | Tolerate | First


class Graph:
    """A workflow: named nodes that run tasks, and the edges between them.

    Every method that builds returns the graph, so calls can be chained. A node is added by the first call that names
    it, and the first of all is the entry; a function may stand for the node that runs it. Not for use by several
    threads at once while it is built.

    Attributes:
        name: The name under which flows are created.
        functions: The functions given so far, by task name, so that an app can register them.
    """

    def __init__(self, name: str) -> None:
        self.name = _check_text(name, "the name of a graph")
        self.functions: dict[str, Callable[..., object]] = {}
        self._entry: str | None = None
        self._nodes: dict[str, dict[str, Json]] = {}
        self._declared: set[str] = set()
        self._edges: list[dict[str, Json]] = []
        self._reducers: dict[str, Json] = {}

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, nodes={len(self._nodes)}, edges={len(self._edges)})"

    def node(
        self,
        name: NodeRef,
        task: NodeRef | None = None,
        *,
        time_budget: Duration | None = None,
        retry: Retry | None = None,
        resource: str | None = None,
        on_failure: OnFailure = "drain",
    ) -> Self:
        """Declare a node with its options; edges may have named it before.

        Args:
            name: The node.
            task: The task that it runs; by default the one of its name. A function goes by its own name, or, when it
                has none or another function of the graph goes by it, by `<graph>.<node>`.
            time_budget: The time for one attempt; by default the flow's.
            retry: Retries of a failed step.
            resource: What the task uses (an account, a host), for limits and breakers.
            on_failure: What a failed branch does to the cohort that this node opens.

        Raises:
            Invalid: The node is declared twice, or an option is outside its range.
        """
        key = self._add(name)
        if key in self._declared:
            raise Invalid(
                f"node {key!r} of graph {self.name!r} is declared twice: give the second another name"
            )
        known = self._nodes[key]
        written: dict[str, Json] = {"name": key, "task": known["task"], "fan_in": known["fan_in"]}
        if task is not None:
            written["task"] = self._task_of(key, task)
        if time_budget is not None:
            written["time_budget_ms"] = _positive_ms(time_budget, f"time_budget of node {key!r}")
        if retry is not None:
            written["retry"] = _retry_json(retry, key)
        if resource is not None:
            written["resource"] = _check_text(resource, f"resource of node {key!r}")
        if on_failure != "drain":
            written["on_failure"] = _failure_json(on_failure, key)
        self._nodes[key] = written
        self._declared.add(key)
        return self

    def entry(self, node: NodeRef) -> Self:
        """Start flows at this node."""
        self._entry = self._add(node)
        return self

    def edge(self, a: NodeRef, b: NodeRef, when: str | None = None) -> Self:
        """Lead from `a` to `b`; with `when`, only if that condition holds.

        Two or more of them out of one node open a cohort: all that apply are taken, side by side.
        """
        if when is None:
            return self._connect(a, b, "plain")
        return self._connect(a, b, "when", when=_check_text(when, "the condition of an edge"))

    def chain(self, *nodes: NodeRef) -> Self:
        """Lead from each node to the next; one node alone is just added."""
        if not nodes:
            raise Invalid(f"a chain in graph {self.name!r} has no nodes: give at least one")
        self._add(nodes[0])
        for a, b in itertools.pairwise(nodes):
            self.edge(a, b)
        return self

    def fan_out(self, a: NodeRef, *targets: NodeRef) -> Self:
        """Lead from `a` to all targets, side by side."""
        self._add(a)
        for target in targets:
            self.edge(a, target)
        return self

    def for_each(self, a: NodeRef, b: NodeRef, *, over: str, bind: str = "item") -> Self:
        """Run `b` once for each element of the array in the field `over`, side by side.

        A branch finds its element in the field `bind`, beside `<bind>_index` and `<bind>_count`.
        """
        _check_text(over, "over of a for_each")
        return self._connect(a, b, "for_each", over=over, bind=_check_text(bind, "bind of a for_each"))

    def switch(self, a: NodeRef, arms: Mapping[str, NodeRef], default: NodeRef | None = None) -> Self:
        """Lead from `a` to the target of the first condition that holds, or to `default`."""
        if not arms and default is None:
            raise Invalid(
                f"the switch at {a!r} in graph {self.name!r} has no arms: give conditions with their targets, or a default"
            )
        for condition, target in arms.items():
            self._connect(a, target, "switch", when=_check_text(condition, "a condition of a switch"))
        if default is not None:
            self._connect(a, default, "switch", default=True)
        return self

    def goto(self, a: NodeRef, b: NodeRef) -> Self:
        """Allow the task of `a` to ask for `b` with `flow.goto`."""
        return self._connect(a, b, "goto")

    def on_error(self, a: NodeRef, b: NodeRef) -> Self:
        """Lead from `a` to `b` when a step of `a` fails for good."""
        return self._connect(a, b, "on_error")

    def fan_in(self, node: NodeRef) -> Self:
        """Let the branches of a cohort meet in this node."""
        self._nodes[self._add(node)]["fan_in"] = True
        return self

    def reducer(self, field: str, name: str) -> Self:
        """Combine the contributions to a field of the state, such as `append` or `add`."""
        _check_text(field, "the field of a reducer")
        if self._reducers.setdefault(field, _check_text(name, f"the reducer of field {field!r}")) != name:
            raise Invalid(
                f"field {field!r} has the reducer {self._reducers[field]!r} already, and {name!r} now: keep one"
            )
        return self

    def validate(self) -> Self:
        """Check every rule.

        Raises:
            Invalid: The message names the node, the reason and a way out.
        """
        _core.compile_graph(self.definition())
        return self

    def to_json(self) -> str:
        """Write the graph as JSON, valid or not."""
        written = {
            "name": self.name,
            "entry": self._entry or next(iter(self._nodes), ""),
            "nodes": list(self._nodes.values()),
            "edges": self._edges,
            "reducers": dict(sorted(self._reducers.items())),
        }
        return json.dumps(written, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a graph that `to_json` wrote; functions are not part of it, tasks are named.

        Raises:
            Invalid: `text` is no graph, or the graph breaks a rule.
        """
        definition = text if isinstance(text, bytes) else _encode(text)
        _, canonical, _ = _core.compile_graph(definition)
        read = json.loads(canonical)
        graph = cls(read["name"])
        graph._entry = read["entry"]
        graph._nodes = {node["name"]: node for node in read["nodes"]}
        graph._edges = read["edges"]
        graph._reducers = read["reducers"]
        return graph

    def definition(self) -> bytes:
        """Write the graph for the core."""
        return _encode(self.to_json())

    def mermaid(self, direction: Direction = "LR") -> str:
        """Draw the graph as a Mermaid flowchart, also one that breaks a rule.

        Raises:
            Invalid: There is no such direction.
        """
        return _core.graph_mermaid(self.definition(), direction)

    def _connect(self, a: NodeRef, b: NodeRef, kind: str, **members: Json) -> Self:
        source = self._add(a)
        target = END if b == END else self._add(b)
        self._edges.append({"from": source, "to": target, "kind": kind, **members})
        return self

    def _add(self, node: NodeRef) -> str:
        name = self._name_of(node)
        if name == END:
            raise Invalid(f"{END} ends a branch of graph {self.name!r}: it is a target only, never a node")
        self._nodes.setdefault(name, {"name": name, "task": name, "fan_in": False})
        return name

    def set_apart(self, name: str) -> None:
        """Let the function that goes by a name go by `<graph>.<node>`: the app has another of that name."""
        function = self.functions.pop(name)
        for key, node in self._nodes.items():
            if node["task"] == name:
                node["task"] = f"{self.name}.{key}"
                self.functions[f"{self.name}.{key}"] = function

    def _name_of(self, node: NodeRef) -> str:
        """The name of a node; a function is kept under its task name."""
        if not callable(node):
            return _check_text(node, f"a node of graph {self.name!r}")
        name = _own_name(node)
        if name is None:
            raise Invalid(f"{node!r} has no name: give its node one, with node(name, task)")
        if self.functions.setdefault(name, node) != node:
            raise Invalid(
                f"graph {self.name!r} has two functions called {name!r}: give the node of one a name, with "
                "node(name, task), or the function, with @app.task(name=…)"
            )
        return name

    def _task_of(self, key: str, task: NodeRef) -> str:
        """The name of a node's task; a function is kept under it."""
        if not callable(task):
            return _check_text(task, f"the task of node {key!r} of graph {self.name!r}")
        name = _own_name(task)
        if name in (None, "<lambda>") or self.functions.setdefault(name, task) != task:
            name = f"{self.name}.{key}"
            self.functions[name] = task
        return name


def _own_name(function: Callable[..., object]) -> str | None:
    name = getattr(function, "__penstock_task__", None) or getattr(function, "__name__", None)
    return name if isinstance(name, str) else None


def _retry_json(retry: Retry, node: str) -> dict[str, Json]:
    if not isinstance(retry, Retry):
        raise Invalid(f"retry of node {node!r} is {retry!r}: give a Retry(…)")
    return retry._to_json()


def _failure_json(policy: OnFailure, node: str) -> dict[str, Json]:
    match policy:
        case Tolerate(n):
            return {"policy": "tolerate", "n": n}
        case First(n):
            return {"policy": "first", "n": n}
        case "fail_fast":
            return {"policy": policy}
    raise Invalid(
        f'on_failure of node {node!r} is {policy!r}: give "drain", "fail_fast", Tolerate(n) or First(n)'
    )


def _error_names(entries: Iterable[str | type[BaseException]], what: str) -> tuple[str, ...]:
    if isinstance(entries, (str, type)):
        raise Invalid(f"{what} is {entries!r}: give a tuple of error codes or exception types")
    place = f"an entry of {what}"
    return tuple(
        entry.__name__ if isinstance(entry, type) else _check_text(entry, place) for entry in entries
    )


def _positive_ms(value: Duration, what: str) -> int:
    return duration_ms(value, what, is_zero_allowed=False)


def _check_count(value: object, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**32:
        raise Invalid(f"{what} is {value!r}: give a whole number of at least 1")


def _check_number(value: object, what: str, least: float, most: float) -> None:
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and least <= value <= most
    ):
        return
    bound = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    raise Invalid(f"{what} is {value!r}: give a number {bound}")


def _check_text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"{what} is {value!r}: give a string that is not blank")
    return value


def _encode(text: str) -> bytes:
    # A lone surrogate goes through as it is: the core refuses it with a sentence.
    return text.encode("utf-8", "surrogatepass")
