"""Parameters from the state by name and annotation, and what a task may return."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from penstock.binding import EVERYTHING, Binding, Needs, is_async, merge_returned, needs_of
from penstock.encoding import encode
from penstock.errors import InvalidState
from penstock.flow import Attempt, Flow


def carrier(**state: Any) -> Flow:
    return Flow(Attempt(1, 1, 0, 0, 1, 0, 0, 0, "0-f", "n", "t", "", encode(state, "state"), "", ""), {})


def call(function: Callable[..., Any], **state: Any) -> Any:
    return Binding(function).call(carrier(**state))


@dataclass
class Line:
    sku: str
    count: int = 1


@dataclass
class Order:
    lines: list[Line]
    note: str | None = None
    tags: dict[str, int] = field(default_factory=dict)
    parent: Order | None = None


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 3, 3),
        (int, 10**30, 10**30),
        (float, 3, 3.0),
        (float, 2.5, 2.5),
        (str, "a", "a"),
        (bool, True, True),
        (list, [1, "a"], [1, "a"]),
        (list[int], [1, 2], [1, 2]),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 1], {1}),
        (int | str, "a", "a"),
        (int | None, None, None),
        (list[int] | dict[str, int], {"a": 1}, {"a": 1}),
        (Literal["a", 1], 1, 1),
        (Colour, "red", Colour.RED),
        (Any, {"a": [None]}, {"a": [None]}),
        (Order, {"lines": [{"sku": "x"}]}, Order([Line("x")])),
        (Order, {"lines": [], "parent": {"lines": []}, "more": 1}, Order([], parent=Order([]))),
    ],
)
def test_a_value_becomes_what_the_annotation_says(annotation: Any, value: Any, expected: Any) -> None:
    def task(x: Any) -> Any:
        return x

    task.__annotations__["x"] = annotation
    found = call(task, x=value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, True, "'x' is declared as int and holds bool"),
        (int, 1.0, "holds float"),
        (float, True, "holds bool"),
        (str, 1, "holds int"),
        (bool, 1, "holds int"),
        (list[int], [1, "a"], r"'x\[1\]' is declared as int and holds str"),
        (dict[str, int], {"a": "b"}, r"'x\.a'"),
        (int | str, [], r"int \| str"),
        (Literal["a"], "b", "one of 'a'"),
        (Colour, "blue", "no Colour"),
        (Order, {"lines": [{"count": 1}]}, r"'x\.lines\[0\]' is declared as Line and lacks 'sku'"),
        (Order, [], "declared as Order and holds list"),
        (bytes, "a", "not made from JSON"),
        (float, 10**400, "beyond its range"),
    ],
)
def test_a_mistyped_field_is_refused_by_its_path(annotation: Any, value: Any, message: str) -> None:
    def task(x: Any) -> None: ...

    task.__annotations__["x"] = annotation
    with pytest.raises(InvalidState, match=message) as caught:
        call(task, x=value)
    assert caught.value.code == "invalid_state"


def test_an_absent_field_takes_the_default_or_is_named() -> None:
    def task(a: int, b: int = 2, c: int | None = None, d: int | None = 4) -> list[Any]:
        return [a, b, c, d]

    assert call(task, a=1) == [1, 2, None, 4]
    with pytest.raises(InvalidState, match="task needs the field 'a'"):
        call(task)


def test_a_parameter_that_may_be_none_needs_no_default() -> None:
    def task(a: int | None) -> Any:
        return a

    assert call(task) is None


def test_the_carrier_the_rest_and_positional_parameters() -> None:
    def task(a: int, /, flow: Flow, *, b: int, **rest: Any) -> Any:
        return [a, b, rest, flow["c"]]

    assert call(task, a=1, b=2, c=3, d=4) == [1, 2, {"c": 3, "d": 4}, 3]


def test_what_a_task_needs_is_told_from_its_parameters() -> None:
    def named(a: int, /, b: list[int], *args: int, c: str = "", d=None) -> None: ...  # type: ignore[no-untyped-def]
    def carried(flow: Flow, a: int) -> None: ...
    def nothing() -> None: ...
    def rest(a: int, **rest: Any) -> None: ...
    async def waits(a: int) -> None: ...

    assert needs_of(named) == Needs(["a", "b", "c", "d"], takes_flow=False)
    assert needs_of(carried) == Needs(["a"], takes_flow=True)
    assert needs_of(nothing) == Needs([], takes_flow=False)
    assert needs_of(waits) == Needs(["a"], takes_flow=False)
    assert needs_of(rest) == EVERYTHING


def test_what_a_task_needs_is_told_before_its_annotations_resolve() -> None:
    def task(a: Later, flow: Flow) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert needs_of(task) == Needs(["a"], takes_flow=True)
    binding = Binding(task)
    binding.function.__globals__["Later"] = int
    try:
        with pytest.raises(InvalidState, match="declared as int"):
            binding.call(carrier(a="x"))
    finally:
        del binding.function.__globals__["Later"]


def test_a_callable_that_cannot_be_looked_into_needs_everything() -> None:
    class Opaque:
        __signature__ = "none"

        def __call__(self) -> None: ...

    assert needs_of(Opaque()) == EVERYTHING


def test_a_carrier_that_only_a_type_checker_sees_is_found() -> None:
    def task(f: elsewhere.Flow, x: elsewhere.Thing) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return [type(f), x]

    assert call(task, x=1) == [Flow, 1]


def test_models_of_libraries_are_made_when_installed() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Model", a=(int, ...))

    def task(x: Any) -> Any:
        return {"y": x}

    task.__annotations__["x"] = model
    flow = carrier(x={"a": 1})
    merge_returned(flow, Binding(task).call(flow))
    assert flow["y"] == {"a": 1}
    with pytest.raises(InvalidState, match="'x' is no Model"):
        call(task, x={"a": "b"})


def test_a_returned_mapping_is_merged_and_anything_else_refused() -> None:
    flow = carrier(a=1, b=2)
    merge_returned(flow, {"a": 5, "b": None, "order": Order([Line("x")])})
    merge_returned(flow, None)
    merge_returned(flow, flow)
    assert flow.as_dict() == {
        "a": 5,
        "order": {"lines": [{"sku": "x", "count": 1}], "note": None, "tags": {}, "parent": None},
    }
    for wrong in (1, "text", [1], Line("x")):
        with pytest.raises(InvalidState, match=type(wrong).__name__):
            merge_returned(flow, wrong)


def test_async_functions_are_known_through_wrappers() -> None:
    async def task() -> None: ...

    class AsyncObject:
        async def __call__(self) -> None: ...

    assert is_async(task)
    assert is_async(AsyncObject())
    assert not is_async(call)
