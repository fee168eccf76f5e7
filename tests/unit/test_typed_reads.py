"""What a declared type makes of a field, what it refuses, and how it is written again."""

from __future__ import annotations

import collections
import dataclasses
import enum
import subprocess
import sys
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import pytest

from penstock.conversion import convert
from penstock.encoding import decode, encode
from penstock.errors import InvalidState

msgspec = pytest.importorskip("msgspec")
pydantic = pytest.importorskip("pydantic")

UserId = NewType("UserId", int)
T = TypeVar("T")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ID = UUID("12345678-1234-5678-1234-567812345678")


class Colour(enum.Enum):
    RED = "red"
    MIXED = ("b", 1)


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: str = "here"


class Address(TypedDict):
    city: str
    lines: NotRequired[list[str]]


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T
    more: list[T] = field(default_factory=list)


@dataclass(kw_only=True, slots=True, frozen=True)
class Everything:
    at: datetime
    day: date = date(2026, 5, 1)
    hour: time = time(12)
    span: timedelta = timedelta(seconds=1.5)
    price: Decimal = Decimal("1.50")
    key: UUID = ID
    colour: Colour = Colour.MIXED
    level: Level | None = Level.LOW
    names: frozenset[str] = frozenset({"b", "a"})
    point: Point = field(default_factory=lambda: Point(1))
    pairs: tuple[tuple[int, str], ...] = ((1, "a"),)
    by_colour: dict[Colour, list[datetime]] = field(default_factory=lambda: {Colour.RED: [NOON]})
    by_number: dict[int, Box[Decimal]] = field(default_factory=lambda: {7: Box(Decimal("0.10"))})
    user: UserId | None = None


@dataclass
class Checked:
    low: int
    high: InitVar[int]
    width: int = field(init=False, default=0)

    def __post_init__(self, high: int) -> None:
        if high < self.low:
            raise ValueError("high is below low")
        self.width = high - self.low


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (UserId, 3, 3),
        (datetime, "2026-05-01T12:00:00Z", NOON),
        (timedelta, 90, timedelta(seconds=90)),
        (Decimal, "1.50", Decimal("1.50")),
        (UUID, str(ID), ID),
        (Colour, ["b", 1], Colour.MIXED),
        (Literal[Colour.RED], "red", Colour.RED),
        (Point, [1, "a"], Point(1, "a")),
        (Point, {"x": 1}, Point(1)),
        (Address, {"city": "Bern", "more": 1}, {"city": "Bern", "more": 1}),
        (Box[int], {"content": 1, "more": [2]}, Box(1, [2])),
        (dict[int, str], {"-1": "a"}, {-1: "a"}),
        (collections.deque[int], [1], collections.deque([1])),
        (tuple[()], [], ()),
        (Annotated[int, "any"] | None, None, None),
        (Checked, {"low": 1, "high": 4}, Checked(1, 4)),
        (int | datetime, "2026-05-01T12:00:00Z", NOON),
    ],
)
def test_a_field_becomes_what_is_declared(annotation: Any, value: Any, expected: Any) -> None:
    found = convert(value, annotation, "x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (int, "7", ["'x'", "int", '"7"']),
        (list[int], [1, 2.5], ["'x[1]'", "int", "2.5"]),
        (datetime, "noon", ["'x'", "datetime", "isoformat", '"noon"']),
        (timedelta, "1 s", ["timedelta", "number of seconds", '"1 s"']),
        (Decimal, 1.5, ["Decimal", "1.5"]),
        (UUID, "x", ["UUID", '"x"']),
        (Colour, "blue", ["Colour", '"blue"', '"red"']),
        (Level, True, ["Level", "true"]),
        (Point, ["a"], ["'x.x'", "int", '"a"']),
        (Point, [1, "a", 2], ["Point", "[1"]),
        (Address, {"lines": []}, ["Address", "lacks 'city'"]),
        (Address, {"city": "Bern", "lines": [1]}, ["'x.lines[0]'", "str", "1"]),
        (Box[int], {"content": "a"}, ["'x.content'", "int", '"a"']),
        (dict[int, str], {"1.0": "a"}, ["'x.1.0'", "int"]),
        (set[list[int]], [[1]], ["'x'", "set", "[[1]]"]),
        (
            Checked,
            {"low": 4, "high": 1},
            ["Checked", "high is below low", '{"low":4'],
        ),
        (int | None, "a", ["'x'", "int", '"a"']),
        (int, [10**5000], ["list", "[1000"]),
    ],
)
def test_a_refusal_names_the_place_the_type_and_the_value(
    annotation: Any, value: Any, words: list[str]
) -> None:
    with pytest.raises(InvalidState) as caught:
        convert(value, annotation, "x")
    assert caught.value.code == "invalid_state"
    for word in words:
        assert word in caught.value.message
    assert len(caught.value.message) < 500


def test_a_dataclass_comes_back_as_it_was_written() -> None:
    for value in (Everything(at=NOON), Everything(at=NOON, level=None, user=UserId(3), names=frozenset())):
        assert convert(decode(encode(value, "x")), Everything, "x") == value


def test_a_struct_of_msgspec_comes_back_as_it_was_written() -> None:
    kind = msgspec.defstruct(
        "Order", [("n", int), ("at", datetime), ("names", set[str], msgspec.field(default_factory=set))]
    )
    value = kind(n=10**30, at=NOON, names={"a"})
    assert convert(decode(encode(value, "x")), kind, "x") == value
    assert convert([decode(encode(value, "x"))], list[kind], "x") == [value]
    with pytest.raises(InvalidState, match=r"'x' is no Order.*Expected `int`, got `str` - at `\$.n`.*holds"):
        convert({"n": "1"}, kind, "x")


@pytest.mark.parametrize("strict", [False, True])
def test_a_model_of_pydantic_comes_back_as_it_was_written(strict: bool) -> None:
    fields: dict[str, Any] = {"n": (int, ...), "at": (datetime, ...), "names": (set[str], set())}
    kind = pydantic.create_model("Order", __config__=pydantic.ConfigDict(strict=strict), **fields)
    value = kind(n=10**30, at=NOON, names={"a"})
    assert convert(decode(encode(value, "x")), kind, "x") == value
    with pytest.raises(
        InvalidState, match=r"'x' is no Order: n: Input should be a valid integer.*; at: Field required"
    ):
        convert({"n": "many"}, kind, "x")


def test_a_dataclass_may_hold_itself_and_a_model() -> None:
    assert convert({"value": 1, "next": {"value": 2}}, Chain, "x") == Chain(1, Chain(2))
    assert convert({"value": 1, "note": {"text": "a"}}, Chain, "x") == Chain(1, None, Note(text="a"))
    assert decode(encode(Chain(1, None, Note(text="a")), "x"))["note"] == {"text": "a"}


class Note(pydantic.BaseModel):  # type: ignore[misc,name-defined]
    text: str


@dataclass
class Chain:
    value: int
    next: Chain | None = None
    note: Note | None = None


def test_the_libraries_are_loaded_only_by_those_who_use_them() -> None:
    script = "import sys, penstock, penstock.conversion, penstock.workers.runner\n"
    script += "print([name for name in ('msgspec', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_outside_of_a_dataclass_a_value_without_a_form_in_json_is_refused() -> None:
    for value in (NOON, {1, 2}, Decimal(1), float("nan"), {"deep": [float("inf")]}):
        with pytest.raises(InvalidState):
            encode(value, "x")
    with pytest.raises(InvalidState, match="NaN"):
        encode(Box(float("nan")), "x")
    assert dataclasses.is_dataclass(Box)
