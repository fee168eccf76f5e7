"""JSON as Penstock writes it: compact ASCII, integers exact at any size, no NaN, no guessing.

What JSON has no form for is refused with a sentence that says what to write instead. Only dataclasses
and the models of msgspec and pydantic are turned into objects on the way.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from penstock.errors import InvalidState

Json = Any
"""A value as `json.loads` gives it."""

# The interpreter converts no longer texts unless told so, and the setting is the host's.
_INTERPRETER_DIGITS = 4300
_LONGEST_SHOWN = 100
_NOT_FINITE = "NaN and infinities have no form in JSON; write None or a str"

_HINTS = {
    "datetime": "write value.isoformat()",
    "date": "write value.isoformat()",
    "time": "write value.isoformat()",
    "timedelta": "write value.total_seconds()",
    "UUID": "write str(value)",
    "Decimal": "write str(value), or an int of the smallest unit",
    "set": "write sorted(value) or list(value)",
    "frozenset": "write sorted(value) or list(value)",
    "bytes": "write base64.b64encode(value).decode()",
    "bytearray": "write base64.b64encode(value).decode()",
    "ndarray": "write value.tolist()",
    "DataFrame": "write value.to_dict('records')",
    "complex": "write [value.real, value.imag]",
    "coroutine": "await it",
}


def encode(value: Json, what: str) -> str:
    """Give the JSON text of a value.

    Args:
        value: JSON types, dataclasses and models, at any depth.
        what: Names the value in a refusal, as in "the field 'amount'".

    Raises:
        InvalidState: Something in the value has no form in JSON.
    """
    try:
        return _dumps(value)
    except InvalidState as error:
        raise InvalidState(f"{what} cannot be stored: {error.message}") from None
    except RecursionError:
        raise InvalidState(f"{what} cannot be stored: it is nested too deeply, or contains itself") from None
    except (TypeError, ValueError) as error:
        return _encode_rare(value, what, error)


def decode(text: str | bytes) -> Json:
    """Give the value of a JSON text that an engine has checked."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=_long_int)


def is_record(value: object) -> bool:
    """Whether `plain` has an object for the value."""
    if isinstance(value, type):
        return False
    return (
        dataclasses.is_dataclass(value) or hasattr(value, "__struct_fields__") or hasattr(value, "model_dump")
    )


def plain(value: object) -> Json:
    """Turn a dataclass or a model into what JSON has a form for, one level deep.

    Raises:
        InvalidState: The value is neither.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _member(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "__struct_fields__"):
        import msgspec

        return msgspec.to_builtins(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    kind = type(value).__name__
    hint = _HINTS.get(kind) or _hint_of(value)
    raise InvalidState(f"JSON has no form for a {kind}; {hint}")


def _member(value: Any) -> Json:
    """Turn a dataclass's value into what it can be read from again."""
    if isinstance(value, (list, tuple)):
        return [_member(item) for item in value]
    if isinstance(value, dict):
        return {_member(key): _member(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return [_member(item) for item in _ordered(value)]
    if isinstance(value, enum.Enum):
        return _member(value.value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (date, time)):
        return value.isoformat()
    return str(value) if isinstance(value, (UUID, Decimal)) else value


def _ordered(members: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(members)
    except TypeError:
        return list(members)


def shown(value: Json) -> str:
    """Give a value for a message: its JSON, not too much of it."""
    try:
        text = encode(value, "the value")
    except InvalidState:
        text = type(value).__name__
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _hint_of(value: object) -> str:
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return "write value.item()"
    if hasattr(value, "_value_") and hasattr(value, "_name_"):
        return "write value.value"
    return "write a dict, a list, a str, a number, a bool or None"


_dumps = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=plain).encode


def _encode_rare(value: Json, what: str, error: TypeError | ValueError) -> str:
    """Write what the fast encoder gave up on, when that was only the length of an integer."""
    reason = str(error)
    if "digits" not in reason:
        if "Out of range" in reason:
            reason = _NOT_FINITE
        raise InvalidState(f"{what} cannot be stored: {reason}") from None
    out: list[str] = []
    try:
        _write(value, out)
    except ValueError:
        raise InvalidState(f"{what} cannot be stored: {_NOT_FINITE}") from None
    return "".join(out)


def _write(value: Json, out: list[str]) -> None:
    if isinstance(value, int) and not isinstance(value, bool):
        out.append(int_text(int(value)))
    elif isinstance(value, dict):
        out.append("{")
        for place, (key, member) in enumerate(value.items()):
            out.append(("," if place else "") + _dumps(str(key)) + ":")
            _write(member, out)
        out.append("}")
    elif isinstance(value, (list, tuple)):
        out.append("[")
        for place, member in enumerate(value):
            out.append("," if place else "")
            _write(member, out)
        out.append("]")
    elif value is None or isinstance(value, (str, float, bool)):
        out.append(_dumps(value))
    else:
        _write(plain(value), out)


def int_text(value: int) -> str:
    """Give the decimal text of an integer of any size, whatever the interpreter's limit is."""
    if value < 0:
        return "-" + int_text(-value)
    digits = value.bit_length() * 30103 // 100000 + 1
    if digits < _INTERPRETER_DIGITS // 8:
        return str(value)
    low_digits = digits // 2
    high, low = divmod(value, 10**low_digits)
    return int_text(high) + int_text(low).zfill(low_digits) if high else int_text(low)


def _long_int(text: str) -> int:
    """Read an integer of any length."""
    if len(text) < _INTERPRETER_DIGITS // 8:
        return int(text)
    if text.startswith("-"):
        return -_long_int(text[1:])
    low_digits = len(text) // 2
    scale: int = 10**low_digits
    return _long_int(text[:-low_digits]) * scale + _long_int(text[-low_digits:])
