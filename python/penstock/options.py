"""What may be said when a flow is created, checked before anything is stored.

Every refusal is an `Invalid` that names the option, the value and the way out. Durations are a timedelta or a number
of seconds outside, whole milliseconds inside.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypedDict

from penstock.encoding import encode, is_record, plain
from penstock.errors import Invalid, InvalidState
from penstock.outcome import Json

#: A timedelta or a number of seconds.
Duration: TypeAlias = timedelta | float

INT32 = range(-(2**31), 2**31)
_UINT32 = range(1, 2**32)
MAX_KEY_BYTES = 255
MAX_ADDRESS_BYTES = 1024
MAX_DURATION_MS = 100 * 366 * 24 * 60 * 60 * 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def duration_ms(value: Duration, what: str, *, is_zero_allowed: bool = True) -> int:
    """Turn a duration into whole milliseconds, rounded up, so that a short one never becomes none.

    Raises:
        Invalid: `value` is no duration, is negative or not finite, is longer than a century, or is zero where that
            has no meaning.
    """
    if isinstance(value, timedelta):
        whole_ms = -(-value // _MILLISECOND)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        # Rounded first: 0.07 s is 70 ms, although 0.07 * 1000 is a little more than 70.
        whole_ms = math.ceil(round(value * 1000, 6))
    else:
        raise Invalid(f"{what} is {value!r}: give a timedelta or a finite number of seconds")
    least = 0 if is_zero_allowed else 1
    if not least <= whole_ms <= MAX_DURATION_MS:
        bound = "zero or more" if is_zero_allowed else "more than zero"
        raise Invalid(f"{what} is {value!r}: it must be {bound} and at most a hundred years")
    return whole_ms


def budget_ms(value: Duration) -> int:
    """Turn a time budget into whole milliseconds.

    Raises:
        Invalid: As `duration_ms`, or it is shorter than a millisecond.
    """
    whole_ms = duration_ms(value, "time_budget", is_zero_allowed=False)
    if (value if isinstance(value, timedelta) else timedelta(seconds=value)) < _MILLISECOND:
        raise Invalid(f"time_budget is {value!r}: give a millisecond or more")
    return whole_ms


def instant_ms(value: datetime, what: str) -> int:
    """Turn an aware datetime into milliseconds since 1970, UTC.

    Raises:
        Invalid: `value` is no datetime, or has no time zone.
    """
    if not isinstance(value, datetime):
        raise Invalid(f"{what} is {value!r}: give an aware datetime, such as datetime.now(UTC)")
    if value.utcoffset() is None:
        raise Invalid(f"{what} is {value!r}, without a time zone: give value.astimezone() or tzinfo=UTC")
    return (value - _EPOCH) // _MILLISECOND


def encode_object(value: Mapping[str, Json], what: str) -> bytes:
    """Encode a JSON mapping, such as a state, as ASCII bytes; a dataclass or a model stands for its fields.

    Raises:
        Invalid: `value` is no mapping with string keys, or holds what JSON has no form for; the message says what to
            write instead.
    """
    if is_record(value):
        value = plain(value)
    if not isinstance(value, Mapping):
        raise Invalid(f"{what} is {_brief(value)}: give a mapping of field names to JSON values")
    for key in value:
        if not isinstance(key, str):
            raise Invalid(f"{what} has the key {key!r}: field names are strings")
    try:
        return encode(dict(value), what).encode("ascii")
    except InvalidState as error:
        # That is how a step fails; an operation refuses.
        raise Invalid(error.message) from None


def _brief(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} (type {type(value).__name__})"


def check_text(value: object, what: str, max_bytes: int) -> None:
    """Refuse what a text column of some database cannot hold."""
    if not isinstance(value, str):
        raise Invalid(f"{what} is {_brief(value)}: give a string")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise Invalid(f"{what} is {value!r}: a lone surrogate cannot be stored, replace it") from error
    if "\0" in value:
        raise Invalid(f"{what} is {value!r}: a NUL character cannot be stored, remove it")
    if size > max_bytes:
        raise Invalid(f"{what} is {size} bytes long: at most {max_bytes} fit, use a hash of it")


def check_names(
    refusal: str, given: Iterable[str], known: Iterable[str], error: type[Exception] = Invalid
) -> None:
    """Refuse a keyword that does not exist; the message names the nearest one."""
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
            raise error(f"{refusal} {name!r}: {hint}")


def _check_flag(value: object, what: str) -> None:
    if not isinstance(value, bool):
        raise Invalid(f"{what} is {value!r}: give True or False")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What an engine may ask of a resource; making one checks it.

    Attributes:
        max_concurrency: Steps of it that run at a time.
        rate: Steps of it that start in a second.
        burst: How many of them may start at once after a rest; default a tenth of the rate, at least 1.
        partition: What the limit is for each of, instead of for the whole: `fairness_key`, or `baggage.` and a path in
            the flow's baggage, such as `baggage.tenant`.

    Raises:
        Invalid: A bound lets nothing through or makes no sense, or there is none.
    """

    max_concurrency: int | None = None
    rate: float | None = None
    burst: float | None = None
    partition: str | None = None

    def __post_init__(self) -> None:
        most = self.max_concurrency
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most not in _UINT32):
            raise Invalid(f"max_concurrency is {most!r}: give an integer of at least 1")
        self._check(self.rate, "rate", 0)
        self._check(self.burst, "burst", 1)
        if most is None and self.rate is None:
            raise Invalid("the limit limits nothing: give max_concurrency or rate")
        if self.burst is not None and self.rate is None:
            raise Invalid(f"burst is {self.burst!r} without a rate: give both")
        if self.partition is not None:
            check_text(self.partition, "partition", MAX_KEY_BYTES)
            path = self.partition.removeprefix("baggage.").split(".")
            is_path = self.partition.startswith("baggage.") and all(path)
            if self.partition != "fairness_key" and not is_path:
                raise Invalid(
                    f"partition is {self.partition!r}: give 'fairness_key', or 'baggage.' and a path in the baggage"
                )

    @staticmethod
    def _check(value: float | None, what: str, least: int) -> None:
        if value is None:
            return
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and value >= least and value > 0):
            raise Invalid(
                f"{what} is {value!r}: give a number {'above 0' if least == 0 else 'of at least 1'}"
            )


class CreateOptions(TypedDict, total=False):
    """The options of `create`, `create_many` and `run` as keyword arguments; see `FlowOptions`."""

    priority: int | None
    fairness_key: str
    fairness_weight: float
    time_budget: Duration | None
    baggage: Mapping[str, Json]
    thread: str | None
    start_at: datetime | None
    hold: bool
    idempotency_key: str | None
    delete_on_completion: bool
    notify_on_stop: str | None
    tags: Mapping[str, str]
    business_key: str | None


class Filters(TypedDict, total=False):
    """Which flows are meant: those for which everything given holds.

    Attributes:
        status: One of `penstock.outcome.STATUSES`.
        thread: The key of any flow of a thread.
        node: Where the flow stands, as fresh as `FlowSummary.nodes`.
        tags: Each name with this value.
        error_code: Of the error that a flow failed with.
        search: A text that occurs in the workflow's name, the business key, the tags, the error or the reason of a
            cancel, whatever the case of its letters; or a whole key.
        older_than: Last changed before this instant, or longer ago than this, by the database's clock.
        newer_than: Last changed at this instant or later, or no longer ago than this.
        shard: The number of a database.
    """

    status: str | None
    workflow: str | None
    thread: str | None
    node: str | None
    fairness_key: str | None
    priority: int | None
    tags: Mapping[str, str] | None
    error_code: str | None
    search: str | None
    older_than: datetime | Duration | None
    newer_than: datetime | Duration | None
    shard: int | None


class ListFilters(Filters, total=False):
    """The arguments of `list`.

    Attributes:
        children: Whether flows below a root are listed too.
        limit: Rows of a page, 100 or up to 1 000.
        cursor: That of the page before.
    """

    children: bool
    limit: int
    cursor: str | None


class PurgeFilters(Filters, total=False):
    """The arguments of `purge`.

    Attributes:
        limit: How many go at most, 4 096 or less; what is below them is not counted.
    """

    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions:
    """Options of a new flow; making one checks them.

    Attributes:
        priority: Lower goes first, 32 bits, strict; None takes the engine's default (100).
        fairness_key: Whose work it is, at most 255 bytes; keys share a band by weight.
        fairness_weight: Share of its key, finite and above zero.
        time_budget: For each attempt of a step; None takes the node's or the engine's (2 minutes).
        baggage: A JSON mapping that tasks read and children inherit; no part of the state.
        thread: Key of any flow of the thread to join, as its next turn.
        start_at: When the first step may start.
        idempotency_key: Creating again with the same key and input gives the same flow; at most 255 bytes.
        delete_on_completion: Whether the flow goes when it has completed; its outcome stays readable for a minute.
        notify_on_stop: An address, handed to the host's callback when the flow stops; at most 1 024 bytes.
        tags: Names to values, for `list`; each at most 255 bytes.
        business_key: What the flow is about, such as an order's number: of each workflow only one flow that has not
            finished may have it; at most 255 bytes.
        hold: Whether the flow is created paused.

    Raises:
        Invalid: A value is of the wrong type or out of range; nothing is stored.
    """

    priority: int | None = None
    fairness_key: str = ""
    fairness_weight: float = 1.0
    time_budget: Duration | None = None
    baggage: Mapping[str, Json] = field(default_factory=dict)
    thread: str | None = None
    start_at: datetime | None = None
    idempotency_key: str | None = None
    delete_on_completion: bool = False
    notify_on_stop: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    business_key: str | None = None
    hold: bool = False

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> FlowOptions:
        """Make options from keyword arguments.

        Raises:
            Invalid: An option is unknown (the message names the nearest one) or has a bad value.
        """
        check_names("unknown option", options, [option.name for option in fields(cls)])
        return cls(**options)

    def __post_init__(self) -> None:
        self._check_scheduling()
        self._check_names()
        _check_flag(self.delete_on_completion, "delete_on_completion")
        _check_flag(self.hold, "hold")
        # Evaluated for their refusals.
        _ = self.time_budget_ms, self.start_at_ms, self.baggage_json

    def _check_scheduling(self) -> None:
        priority = self.priority
        is_number = isinstance(priority, int) and not isinstance(priority, bool)
        if priority is not None and not (is_number and priority in INT32):
            raise Invalid(f"priority is {priority!r}: give an integer of 32 bits, lower goes first")
        weight = self.fairness_weight
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise Invalid(f"fairness_weight is {weight!r}: give a number above zero")
        if not (math.isfinite(weight) and weight > 0):
            raise Invalid(f"fairness_weight is {weight!r}: it must be finite and above zero")
        check_text(self.fairness_key, "fairness_key", MAX_KEY_BYTES)

    def _check_names(self) -> None:
        if self.thread is not None:
            check_text(self.thread, "thread", MAX_KEY_BYTES)
        if self.idempotency_key is not None:
            check_text(self.idempotency_key, "idempotency_key", MAX_KEY_BYTES)
            if not self.idempotency_key:
                raise Invalid("idempotency_key is empty: leave it out, or give what identifies the request")
        if self.business_key is not None:
            check_text(self.business_key, "business_key", MAX_KEY_BYTES)
            if not self.business_key:
                raise Invalid("business_key is empty: leave it out, or give what the flow is about")
        if self.notify_on_stop is not None:
            check_text(self.notify_on_stop, "notify_on_stop", MAX_ADDRESS_BYTES)
        if not isinstance(self.tags, Mapping):
            raise Invalid(f"tags is {self.tags!r}: give a mapping of strings to strings")
        for name, value in self.tags.items():
            check_text(name, "the name of a tag", MAX_KEY_BYTES)
            check_text(value, f"tag {name!r}", MAX_KEY_BYTES)

    @property
    def time_budget_ms(self) -> int | None:
        """The time budget in milliseconds, None for the default."""
        if self.time_budget is None:
            return None
        return budget_ms(self.time_budget)

    @property
    def start_at_ms(self) -> int | None:
        """The start in milliseconds since 1970, None for at once."""
        return None if self.start_at is None else instant_ms(self.start_at, "start_at")

    @property
    def baggage_json(self) -> bytes:
        """The baggage as a JSON object."""
        return encode_object(self.baggage, "baggage")

    @property
    def tags_json(self) -> bytes:
        """The tags as a JSON object with sorted names."""
        return encode_object(dict(sorted(self.tags.items())), "tags")
