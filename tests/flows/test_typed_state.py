"""Typed parameters and reads, through engine, workers and database and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest

from penstock import App, Engine, Flow

app = App("typed")
NOON = "2026-05-01T12:00:00+00:00"


class Place(NamedTuple):
    row: int
    name: str = "here"


@dataclass
class Line:
    sku: str
    price: Decimal
    place: Place | None = None


@dataclass
class Order:
    lines: list[Line]
    at: datetime
    tags: set[str] = field(default_factory=set)


class Struct(msgspec.Struct):
    n: int
    at: datetime


class Model(pydantic.BaseModel):
    n: int
    at: datetime


@app.task
def through(order: Order, struct: Struct, model: Model, more: Line | None) -> dict[str, Any]:
    assert order.at == struct.at == model.at == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert more is None
    order.lines.append(Line("b", order.lines[0].price * 2, Place(2)))
    order.tags.add("seen")
    struct.n += 1
    model.n += 1
    return {"order": order, "struct": struct, "model": model}


@app.task
async def read(flow: Flow) -> dict[str, Any]:
    order = flow.get("order", Order)
    assert order.lines[1].place == Place(2)
    numbers = flow.get("struct", Struct).n, flow.get("model", Model).n
    assert flow.get("nowhere", Order, default="absent") == "absent"
    return {"total": str(sum(line.price for line in order.lines)), "numbers": numbers}


@app.task
def misread(flow: Flow, kind: str) -> None:
    flow.get("value", {"order": Order, "struct": Struct, "model": Model}[kind])


app.graph("through").chain(through, read)
app.graph("misread").chain(misread)


def test_dataclasses_structs_and_models_pass_through_a_flow(engine: Engine) -> None:
    some = {"n": 10**30, "at": NOON}
    order = {"lines": [{"sku": "a", "price": "1.10"}], "at": NOON}
    outcome = engine.run("through", {"order": order, "struct": some, "model": some}, timeout=20)
    assert outcome.error is None
    assert outcome.state["order"] == {
        "lines": [
            {"sku": "a", "price": "1.10", "place": None},
            {"sku": "b", "price": "2.20", "place": [2, "here"]},
        ],
        "at": NOON,
        "tags": ["seen"],
    }
    assert (outcome.state["total"], outcome.state["numbers"]) == ("3.30", [10**30 + 1] * 2)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("order", "'value' is declared as Order and lacks 'lines'"),
        ("struct", "'value' is no Struct"),
        ("model", "n: "),
    ],
)
def test_a_mistyped_read_is_an_error_of_the_step(engine: Engine, kind: str, words: str) -> None:
    error = engine.run("misread", {"kind": kind, "value": {"n": "many", "at": NOON}}, timeout=20).error
    assert error is not None
    assert (error.code, error.node) == ("invalid_state", "misread")
    assert words in error.message
