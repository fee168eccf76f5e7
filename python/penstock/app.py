"""An app: the tasks and graphs that belong together, found again by name in every process that imports it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from penstock.errors import Invalid, NotFound

if TYPE_CHECKING:
    from penstock.graph import Graph

F = TypeVar("F", bound=Callable[..., Any])


class App:
    """Tasks and graphs by name.

    Make it at the top level of a module: workers import that module and find the app by its variable.
    """

    def __init__(self, name: str | None = None) -> None:
        """Make an empty app.

        Args:
            name: For people, in logs; default is the module's name.
        """
        caller = sys._getframe(1).f_globals.get("__name__")
        self.module: str = caller if isinstance(caller, str) else "__main__"
        self.name = name or self.module
        self._functions: dict[str, Callable[..., Any]] = {}
        self._registered: set[str] = set()
        self._graphs: dict[str, Graph] = {}

    def __repr__(self) -> str:
        return f"<App {self.name!r}: {len(self._functions)} tasks, {len(self._graphs)} graphs>"

    @overload
    def task(self, fn: F, *, name: str | None = None) -> F: ...

    @overload
    def task(self, fn: None = None, *, name: str | None = None) -> Callable[[F], F]: ...

    def task(self, fn: F | None = None, *, name: str | None = None) -> F | Callable[[F], F]:
        """Register a function, sync or async, as a task; also a decorator with arguments.

        Raises:
            Invalid: The name is taken, or there is none.
        """
        if fn is None:
            return lambda function: self._register(function, name)
        return self._register(fn, name)

    def graph(self, name: str) -> Graph:
        """Make a graph of this app.

        Raises:
            Invalid: The app has a graph of that name.
        """
        from penstock.graph import Graph

        return self.add(Graph(name))

    def add(self, graph: Graph) -> Graph:
        """Add a graph made elsewhere, and give it back.

        Raises:
            Invalid: The app has a graph of that name.
        """
        if graph.name in self._graphs:
            raise Invalid(f"the app has a graph {graph.name!r} already; give this one another name")
        self._graphs[graph.name] = graph
        return graph

    def tasks(self) -> list[str]:
        """The names of all tasks, sorted; functions that stand for nodes in graphs are among them."""
        self._adopt_functions()
        return sorted(self._functions)

    def graphs(self) -> list[str]:
        """The names of all graphs, sorted."""
        return sorted(self._graphs)

    def get_graph(self, name: str) -> Graph:
        """Give a graph by name.

        Raises:
            NotFound: The app has none of that name.
        """
        try:
            return self._graphs[name]
        except KeyError:
            known = ", ".join(self.graphs()) or "none"
            raise NotFound(f"the app has no graph {name!r}; it has: {known}") from None

    def get_task(self, name: str) -> Callable[..., Any]:
        """Give a task's function by name.

        Raises:
            NotFound: The app has none of that name.
        """
        if name not in self._functions:
            self._adopt_functions()
        try:
            return self._functions[name]
        except KeyError:
            raise NotFound(f"the app has no task {name!r}; decorate its function with @app.task") from None

    def _register(self, function: F, name: str | None) -> F:
        name = name or getattr(function, "__name__", None)
        if not callable(function):
            raise Invalid(f"a task is a function, not {function!r}")
        if not name or name == "<lambda>":
            raise Invalid(f"{function!r} has no name; register it with task(…, name='…')")
        if name in self._functions:
            raise Invalid(f"the app has a task {name!r} already; give this one another with task(name='…')")
        self._functions[name] = function
        self._registered.add(name)
        _mark(function, name)
        return function

    def _adopt_functions(self) -> None:
        """Register the functions that graphs use as nodes: a graph may name them after it was added."""
        for graph in self._graphs.values():
            for name, function in list(graph.functions.items()):
                if self._functions.setdefault(name, function) == function:
                    continue
                if name in self._registered:
                    raise Invalid(
                        f"the graph {graph.name!r} uses a function as the task {name!r}, and the app has another "
                        "of that name; register one of them with task(name='…')"
                    )
                graph.set_apart(name)
            self._functions.update(graph.functions)


def _mark(function: Callable[..., Any], name: str) -> None:
    """Tell graphs under which name the function is a task; a bound method cannot carry it and needs none."""
    try:
        function.__penstock_task__ = name  # type: ignore[attr-defined]  # read by Graph
    except AttributeError:
        return
