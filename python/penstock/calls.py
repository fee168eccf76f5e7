"""The calls of a task that park its step: answered ones return at once, the first unanswered one unwinds.

A call finds its answer by its key, or else by its place among the calls without one. The place is recorded with
the call, so that what a retry forgets moves nothing. Coroutines that run
side by side have no common order, so in a child asyncio task a call's place is the path of tasks that leads
to it and its place there: `@2.1:0` is the first call of the first child of the second child.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.encoding import Json, decode, encode
from penstock.errors import CallOrder, InterruptTimeout, SubgraphFailed

if TYPE_CHECKING:
    import asyncio

    Task = asyncio.Task[object]


class Park(BaseException):
    """Unwinds a task that waits. One that does not let it pass fails, since the record says that it was raised."""


class Calls:
    """The calls of one attempt."""

    __slots__ = (
        "_counts",
        "_keyed",
        "_keys",
        "_on_park",
        "_ordered",
        "_parked",
        "_paths",
        "failure",
        "opened",
    )

    def __init__(self, answered: str, on_park: Callable[[], None]) -> None:
        """Make the record of an attempt.

        Args:
            answered: The answered calls, a JSON list in call order, or empty.
            on_park: Called at the first unanswered call, before anything unwinds.
        """
        records: list[dict[str, Json]] = decode(answered) if answered else []
        self._keyed = {record["key"]: record for record in records if record.get("key") is not None}
        unnamed = (record for record in records if record.get("key") is None)
        # Journals of earlier versions have no places: there the order is the place.
        self._ordered = {record.get("at", place): record for place, record in enumerate(unnamed)}
        self._on_park = on_park
        self._counts: Counter[str] = Counter()
        self._keys: dict[str, tuple[str, str | None]] = {}
        self._parked: set[str] = set()
        self._paths: dict[Task, str] = {}
        self.failure: CallOrder | None = None
        self.opened: list[str] = []

    def call(self, kind: str, *, key: str | None = None, target: str | None = None, **details: Json) -> Json:
        """Give the recorded answer of a call, or record the call and unwind.

        Raises:
            SubgraphFailed: The child failed.
            InterruptTimeout: The answer did not come in time.
            CallOrder: The answer at this place is that of another call.
        """
        path = self._path()
        if path in self._parked:
            raise Park
        place = self._counts[path]
        self._counts[path] += 1
        if key is None and path:
            key = f"@{path}:{place}"
        elif key is not None:
            self._counts[path] -= 1
        record = self._answered(key, place)
        if record is not None:
            return self._answer(record, kind, target, key)
        at = place if key is None else None
        self._open(path, {"kind": kind, "key": key, "at": at, "target": target, **details})
        raise Park

    def adopt(self, task: Task, parent: Task | None) -> None:
        """Note the asyncio task that another one of the attempt, or its main one (None), has made."""
        path = self._paths.get(parent, "") if parent is not None else ""
        self._counts[f"{path}/"] += 1
        number = self._counts[f"{path}/"]
        self._paths[task] = f"{path}.{number}" if path else str(number)

    @property
    def has_parked_itself(self) -> bool:
        """Whether the task's own code, and not an asyncio task that it made, has an unanswered call."""
        return "" in self._parked

    def open_tasks(self) -> list[Task]:
        """The attempt's asyncio tasks, its main one left out, that have not ended."""
        return [task for task in self._paths if not task.done()]

    def look_at_parks(self) -> None:
        """Retrieve the parks that unwound asyncio tasks, which asyncio would report as forgotten errors."""
        for task in self._paths:
            if task.done() and not task.cancelled():
                task.exception()

    def _path(self) -> str:
        task = _current_task() if self._paths else None
        return self._paths.get(task, "") if task is not None else ""

    def _answered(self, key: str | None, place: int) -> dict[str, Json] | None:
        return self._keyed.get(key) if key is not None else self._ordered.get(place)

    def _answer(self, record: dict[str, Json], kind: str, target: str | None, key: str | None) -> Json:
        if (record["kind"], record.get("target")) != (kind, target):
            self._refuse(_call_text(kind, target), _call_text(record["kind"], record.get("target")), key)
        error = record.get("error")
        if error is None:
            return record.get("answer")
        message = error.get("message", "")
        if kind == "subgraph":
            raise SubgraphFailed(error.get("code", "error"), message, data=error.get("data"))
        raise InterruptTimeout(message or f"nobody answered {_call_text(kind, target)} in time")

    def _open(self, path: str, call: dict[str, Json]) -> None:
        text = encode({name: value for name, value in call.items() if value is not None}, "a call's payload")
        key = call["key"]
        if not self.opened:
            self._on_park()
        self._parked.add(path)
        if key is not None:
            asked = (call["kind"], call["target"])
            if self._keys.setdefault(key, asked) != asked:
                self._refuse(_call_text(*asked), _call_text(*self._keys[key]), key)
            if text in self.opened:
                return
        self.opened.append(text)

    def _refuse(self, now: str, before: str, key: str | None) -> None:
        place = f"under the key {key!r}" if key is not None else "at this place"
        error = CallOrder(
            f"{now} was called where {before} was called before {place}; a task that runs again must make the "
            "same calls in the same order, or give each a key="
        )
        self.failure = self.failure or error
        raise error


def _current_task() -> Task | None:
    """The asyncio task that runs here; asyncio is not loaded to learn that there is none."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        task: Task | None = asyncio.current_task()
    except RuntimeError:
        return None
    return task


def _call_text(kind: str, target: str | None) -> str:
    name = {"signal": "wait_signal"}.get(kind, kind)
    return f"{name}({target!r})" if target is not None else f"{name}()"
