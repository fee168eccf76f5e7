"""How scalars are read from the form in which a state holds them, and how a value is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from penstock.encoding import Json, shown
from penstock.errors import InvalidState

Converter = Callable[[Json, str], Any]
"""Takes a value and its path, gives what an annotation says, or raises InvalidState."""

_NAMES = {
    dict: "object",
    list: "list",
    str: "str",
    bool: "bool",
    int: "int",
    float: "float",
    type(None): "null",
}


def mismatch(value: Json, wanted: str, path: str) -> InvalidState:
    """Give the refusal of a value that is not what an annotation says."""
    found = _NAMES.get(type(value), type(value).__name__)
    said = "" if value is None else f": {shown(value)}"
    return InvalidState(f"the field {path!r} is declared as {wanted} and holds {found}{said}")


def _of_text(kind: Callable[[str], Any], name: str, form: str) -> Converter:
    def read(value: Json, path: str) -> Any:
        if type(value) is str:
            try:
                return kind(value)
            except (ValueError, InvalidOperation):
                pass
        raise InvalidState(f"the field {path!r} is declared as {name}, {form}, and holds {shown(value)}")

    return read


def _timedelta(value: Json, path: str) -> timedelta:
    if type(value) in (int, float):
        try:
            return timedelta(seconds=value)
        except OverflowError:
            pass
    raise InvalidState(
        f"the field {path!r} is declared as timedelta, a number of seconds, and holds {shown(value)}"
    )


def _float(value: Json, path: str) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise mismatch(value, "float", path)
    try:
        return float(value)
    except OverflowError:
        raise InvalidState(
            f"the field {path!r} is declared as float and holds an int beyond its range"
        ) from None


SCALARS: dict[Any, Converter] = {
    float: _float,
    datetime: _of_text(datetime.fromisoformat, "datetime", "a str as of isoformat()"),
    date: _of_text(date.fromisoformat, "date", "a str as of isoformat()"),
    time: _of_text(time.fromisoformat, "time", "a str as of isoformat()"),
    timedelta: _timedelta,
    UUID: _of_text(UUID, "UUID", "a str"),
    Decimal: _of_text(Decimal, "Decimal", "a str of its digits"),
}
"""Type to what reads it."""
