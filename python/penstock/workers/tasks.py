"""The tasks a worker can run, and how each is called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from penstock.app import App
from penstock.binding import EVERYTHING, Binding, Needs, is_async, needs_of
from penstock.flow import Flow
from penstock.host import TaskExecutor


class TaskTable(dict[str, bool]):
    """Task name to whether it is async.

    Attributes:
        default: What holds for names that are not listed; None when those are unknown tasks.
        needs: What each needs of the state; of a name that is not here, everything.
    """

    def __init__(
        self,
        tasks: dict[str, bool] | None = None,
        default: bool | None = None,
        needs: Mapping[str, Needs] | None = None,
    ) -> None:
        """Make a table of these tasks."""
        super().__init__(tasks or {})
        self.default = default
        self.needs = dict(needs or {})

    @classmethod
    def of_report(cls, report: Mapping[str, list[Any]]) -> TaskTable:
        """Read what `report` gave."""
        kinds = {name: kind for name, (kind, _, _) in report.items()}
        return cls(kinds, needs={name: Needs(*needs) for name, (_, *needs) in report.items()})

    def report(self) -> dict[str, list[Any]]:
        """Give the listed tasks as JSON: name to (is async, fields, takes the carrier)."""
        return {name: [kind, *fields] for name, kind, *fields in self.rows()}

    def rows(self) -> list[tuple[str, bool, list[str] | None, bool]]:
        """Give the listed tasks as the core takes them."""
        return [(name, kind, *self.needs.get(name, EVERYTHING)) for name, kind in self.items()]

    def kind_of(self, name: str) -> bool | None:
        """Whether a task is async; None for an unknown one."""
        return self.get(name, self.default)


class Task(NamedTuple):
    """A task, ready to be called: with the carrier, giving what it returns or a coroutine of that."""

    is_async: bool
    call: Callable[[Flow], Any]


class Tasks(Protocol):
    """Where a worker finds its tasks."""

    def table(self) -> TaskTable:
        """Give the names and kinds."""
        ...

    def find(self, name: str) -> Task:
        """Give a task.

        Raises:
            NotFound: There is none of that name.
        """
        ...


class AppTasks:
    """The tasks of an app; each is bound at its first call."""

    def __init__(self, app: App) -> None:
        """Make the tasks of an app."""
        self._app = app
        self._found: dict[str, Task] = {}

    def table(self) -> TaskTable:
        """Give the names and kinds."""
        tasks = {name: self._app.get_task(name) for name in self._app.tasks()}
        kinds = {name: is_async(task) for name, task in tasks.items()}
        return TaskTable(kinds, needs={name: needs_of(task) for name, task in tasks.items()})

    def find(self, name: str) -> Task:
        """Give a task."""
        task = self._found.get(name)
        if task is None:
            function = self._app.get_task(name)
            task = self._found[name] = Task(is_async(function), Binding(function).call)
        return task


class ExecutorTasks:
    """Every name is a task of a host's executor."""

    def __init__(self, executor: TaskExecutor) -> None:
        """Make the tasks of an executor."""
        self._executor = executor
        self._is_async = inspect.iscoroutinefunction(executor.execute)

    def table(self) -> TaskTable:
        """Give a table without names whose default is the executor's kind."""
        return TaskTable(default=self._is_async)

    def find(self, name: str) -> Task:
        """Give a task; whether there is one is the executor's to say."""
        return Task(self._is_async, lambda flow: self._execute(name, flow))

    def _execute(self, name: str, flow: Flow) -> Any:
        returned = self._executor.execute(name, flow)
        if not self._is_async and inspect.isawaitable(returned):
            # A plain function that gave an awaitable: it is awaited on the thread that called it.
            return asyncio.run(_result_of(returned))
        return returned


async def _result_of(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
