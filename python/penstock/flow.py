"""The carrier: what a task sees of its flow, and how it asks for anything but returning a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar, overload

from penstock.calls import Calls
from penstock.clock import wall_clock_ms
from penstock.encoding import Json, decode
from penstock.errors import Invalid, InvalidState
from penstock.fields import Fields

T = TypeVar("T")
Duration = timedelta | float

_LONGEST_MS = 100 * 365 * 86_400_000


class Attempt(NamedTuple):
    """One attempt of a step, as it came over the wire. Texts are JSON, or empty."""

    kind: int
    dispatch: int
    graph_no: int
    attempt: int
    step: int
    created_at_ms: int
    step_created_at_ms: int
    budget_ms: int
    flow_key: str
    node: str
    task: str
    baggage: str
    state: str
    changes: str
    calls: str
    left_out: str = ""


class Signals:
    """What a task has asked for besides its changes. Written by the task, read when it has ended."""

    __slots__ = ("delay_ms", "goto", "retry_ms")

    def __init__(self) -> None:
        """Make signals that ask for nothing."""
        self.goto: str | None = None
        self.delay_ms = 0
        self.retry_ms: int | None = None


class Flow(MutableMapping[str, Any]):
    """The flow as one attempt of a task sees it.

    A mapping of the state's fields. A value read is not watched: to change a list, assign it. On a field
    with a reducer a task assigns only its own contribution, and reads the folded value.

    Only a worker makes these; a task has one parameter annotated `Flow`, or calls `current_flow`.
    """

    __slots__ = (
        "_attempt",
        "_calls",
        "_cancelled",
        "_ended",
        "_fields",
        "_now",
        "_parked_changes",
        "_signals",
        "_started_ms",
    )

    def __init__(
        self,
        attempt: Attempt,
        reducers: Mapping[str, str],
        fetch: Callable[[int, str], str] | None = None,
        now: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """Make the carrier of an attempt whose graph has these reducers (field to name).

        `fetch` gives fields of an attempt that was sent a part of its state, by its dispatch and their names; `now` is
        the clock, in milliseconds.
        """
        rest = partial(fetch, attempt.dispatch) if fetch is not None and attempt.left_out else None
        self._attempt = attempt
        self._fields = Fields(attempt.state, reducers, attempt.changes, rest, attempt.left_out)
        self._now = now
        self._calls: Calls | None = None
        self._signals = Signals()
        self._parked_changes = ""
        self._cancelled = False
        self._ended = False
        self._started_ms = 0

    # -- state --

    def __getitem__(self, key: str) -> Any:
        return self._fields.read(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._check_open()
        self._fields.write(key, value)

    def __delitem__(self, key: str) -> None:
        self._check_open()
        self._fields.delete(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields.names())

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def __repr__(self) -> str:
        return f"<Flow step={self.step_key!r} node={self.node!r} attempt={self.attempt}>"

    @overload  # type: ignore[override]  # the second argument is a type, as the public contract has it
    def get(self, key: str, type: None = None, default: Any = None) -> Any: ...

    @overload
    def get(self, key: str, type: Callable[..., T], default: Any = None) -> T: ...

    def get(self, key: str, type: Any = None, default: Any = None) -> Any:  # noqa: A002 - public name
        """Give a field, checked against a type and made into one (a dataclass, a model, `list[int]`).

        Raises:
            InvalidState: The field is there and is not of that type.
        """
        try:
            value = self._fields.read(key)
        except KeyError:
            return default
        if type is None:
            return value
        from penstock.conversion import convert

        return convert(value, type, key)

    def clear(self) -> None:
        """Remove every field.

        Raises:
            InvalidState: One of them has a reducer; nothing is removed.
        """
        self._check_open()
        names = self._fields.names()
        for name in sorted(names, key=self._fields.is_reduced, reverse=True):
            self._fields.delete(name)

    def as_dict(self) -> dict[str, Any]:
        """Give all fields as a dict of their own."""
        found = self._fields.found()
        return dict(found) if found is not None else {name: self[name] for name in self}

    def overwrite(self, field: str, value: Any) -> None:
        """Replace a field on purpose, whatever its reducer; None removes it."""
        self._check_open()
        self._fields.overwrite(field, value)

    # -- signals --

    def goto(self, node: str | Callable[..., Any]) -> None:
        """Go on at a node that a goto edge of this one declares, and nowhere else."""
        self._check_open()
        self._signals.goto = _node_name(node)

    def delay(self, d: Duration) -> None:
        """Start the successors that much later; with `retry`, the next attempt."""
        self._check_open()
        self._signals.delay_ms = milliseconds(d, "delay")

    def retry(
        self,
        initial: Duration,
        multiplier: float = 1,
        max_interval: Duration | None = None,
        give_up_after: Duration | None = None,
    ) -> bool:
        """Run this step again once the task has returned, after `initial * multiplier ** attempt`.

        Args:
            initial: The wait before the second attempt.
            multiplier: Growth of each further wait; 0 and less mean none.
            max_interval: The longest wait.
            give_up_after: Counted from the creation of the step, by the clock. A wait that would end
                after it is refused beforehand.

        Returns:
            False when nothing was armed because the horizon would be passed.
        """
        self._check_open()
        wait_ms = _wait_ms(milliseconds(initial, "initial"), multiplier, self.attempt, max_interval)
        horizon_ms = 0 if give_up_after is None else milliseconds(give_up_after, "give_up_after")
        elapsed_ms = self._now() - self._attempt.step_created_at_ms
        if horizon_ms > 0 and elapsed_ms + wait_ms >= horizon_ms:
            return False
        self._signals.retry_ms = wait_ms
        return True

    # -- parks --

    def interrupt(
        self, payload: Any = None, *, key: str | None = None, timeout: Duration | None = None
    ) -> Any:
        """Ask somebody outside and wait for `resume`.

        Returns:
            The answer, when the task runs again and comes here.

        Raises:
            InterruptTimeout: Nobody answered in time.
        """
        return self._call("interrupt", key=key, payload=payload, timeout_ms=_timeout_ms(timeout))

    def subgraph(
        self, workflow: str, input: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> Any:
        """Run a workflow as a child and wait for it.

        Returns:
            The child's final state, a dict.

        Raises:
            SubgraphFailed: The child failed.
        """
        if input is not None and not isinstance(input, Mapping):
            raise InvalidState(
                f"the input of the subgraph {workflow!r} is a mapping, not {type(input).__name__}"
            )
        name = workflow if isinstance(workflow, str) else str(getattr(workflow, "name", workflow))
        return self._call("subgraph", key=key, target=name, input=dict(input or {}))

    def sleep(self, d: Duration, *, key: str | None = None) -> None:
        """Park for that long: no worker is held, and a restart loses nothing."""
        self._call("sleep", key=key, ms=milliseconds(d, "sleep"))

    def wait_signal(self, name: str, *, timeout: Duration | None = None) -> Any:
        """Wait for a signal of that name.

        Returns:
            Its payload.

        Raises:
            InterruptTimeout: It did not come in time.
        """
        return self._call("signal", target=name, timeout_ms=_timeout_ms(timeout))

    # -- identity and time --

    @property
    def key(self) -> str:
        """The flow's key: whoever has it may operate on the flow."""
        return self._attempt.flow_key

    @property
    def step_key(self) -> str:
        """The step's key, the same in all its attempts: what makes an outside effect idempotent."""
        return f"{self._attempt.flow_key}/{self._attempt.step}"

    @property
    def node(self) -> str:
        """The node that this step executes."""
        return self._attempt.node

    @property
    def attempt(self) -> int:
        """0 for the first; counts retries only, neither parks nor crashes."""
        return self._attempt.attempt

    @property
    def baggage(self) -> dict[str, Any]:
        """What the creator of the flow gave along, for all its steps."""
        return decode(self._attempt.baggage) if self._attempt.baggage else {}

    @property
    def created_at(self) -> datetime:
        """When the flow was created."""
        return _instant(self._attempt.created_at_ms)

    @property
    def step_created_at(self) -> datetime:
        """When the step was created, before its first attempt."""
        return _instant(self._attempt.step_created_at_ms)

    @property
    def now(self) -> datetime:
        """The time by this machine's clock, or by the one that a test has set; aware."""
        return _instant(self._now())

    @property
    def deadline(self) -> datetime | None:
        """When this attempt's time budget ends, counted from its start; None without one."""
        budget_ms = self._attempt.budget_ms
        return _instant(self._started_ms + budget_ms) if budget_ms and self._started_ms else None

    @property
    def is_cancelled(self) -> bool:
        """Whether the result of this attempt is no longer wanted, or its time is up.

        A long sync task looks now and then, and returns; what it returns counts for nothing.
        """
        return self._cancelled

    # -- for the worker --

    def _begin(self) -> None:
        self._started_ms = self._now()

    def _open_calls(self) -> Calls:
        if self._calls is None:
            self._calls = Calls(self._attempt.calls, self._on_park)
        return self._calls

    def _call(self, kind: str, **details: Json) -> Any:
        self._check_open()
        return self._open_calls().call(kind, **details)

    def _on_park(self) -> None:
        self._parked_changes = self._fields.changes_json()

    def _check_open(self) -> None:
        if self._ended:
            raise Invalid(f"the attempt of {self.step_key} has ended; its flow can no longer be changed")


_current: ContextVar[Flow] = ContextVar("penstock_flow")


def current_flow() -> Flow:
    """Find the carrier of the task that runs, from any depth of sync or async code.

    Raises:
        Invalid: No task runs here: outside of a worker, or in a thread without the task's context.
    """
    flow = _current.get(None)
    if flow is None:
        raise Invalid(
            "no task runs here; in a thread of your own, run the code in contextvars.copy_context()"
        )
    return flow


def milliseconds(d: Duration, what: str) -> int:
    """Give a duration, a timedelta or seconds, in whole milliseconds, never less than 0.

    Raises:
        Invalid: It is neither, or not a number.
    """
    if isinstance(d, bool) or not isinstance(d, (timedelta, int, float)):
        raise Invalid(f"{what} is a timedelta or a number of seconds, not {d!r}")
    seconds = d.total_seconds() if isinstance(d, timedelta) else d
    if seconds != seconds:
        raise Invalid(f"{what} is not a number")
    return int(min(max(seconds, 0) * 1000, _LONGEST_MS))


def _wait_ms(initial_ms: int, multiplier: float, attempt: int, max_interval: Duration | None) -> int:
    try:
        wait_ms = initial_ms * (multiplier**attempt if multiplier > 0 else 1)
    except OverflowError:
        wait_ms = _LONGEST_MS if initial_ms else 0
    cap_ms = 0 if max_interval is None else milliseconds(max_interval, "max_interval")
    return int(min(wait_ms, cap_ms or _LONGEST_MS))


def _timeout_ms(timeout: Duration | None) -> int | None:
    return None if timeout is None else milliseconds(timeout, "timeout")


def _node_name(node: str | Callable[..., Any]) -> str:
    if isinstance(node, str):
        return node
    name = getattr(node, "__penstock_task__", None) or getattr(node, "__name__", None)
    if not isinstance(name, str):
        raise Invalid(f"goto takes a node's name or its function, not {node!r}")
    return name


def _instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
