"""Values of a state made into records: dataclasses, typed dicts, named tuples, and models of msgspec and pydantic.

Fields that a record does not declare are left out, as those libraries do. The libraries are imported when a task
declares one of their models, and never before.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

from penstock.encoding import Json, encode, shown
from penstock.errors import InvalidState
from penstock.scalars import Converter, mismatch

Compile = Callable[[Any], Converter | None]


class _Member(typing.NamedTuple):
    name: str
    check: Converter | None
    has_default: bool


class Dataclass:
    """Makes instances of one dataclass; its fields are compiled at the first, since types may be recursive."""

    def __init__(self, kind: Any, compile_: Compile, arguments: Mapping[Any, Any] | None = None) -> None:
        """Make it for a class, with what its type variables stand for."""
        self._kind = kind
        self._compile = compile_
        self._arguments = arguments or {}
        self._members: list[_Member] | None = None

    def __call__(self, value: Json, path: str) -> Any:
        """Give an instance.

        Raises:
            InvalidState: The value is no object, or one of its fields does not fit.
        """
        if type(value) is not dict:
            raise mismatch(value, self._kind.__name__, path)
        found = _members_of(value, self._compiled(), self._kind.__name__, path)
        try:
            return self._kind(**found)
        except (ValueError, TypeError) as error:  # of its __post_init__
            raise _no_record(value, self._kind, path, str(error)) from error

    def _compiled(self) -> list[_Member]:
        if self._members is None:
            hints = typing.get_type_hints(self._kind, include_extras=True)
            fields = [f for f in self._kind.__dataclass_fields__.values() if f.init and _is_argument(f)]
            self._members = [
                _Member(f.name, self._compile(_bound(hints[f.name], self._arguments)), _has_default(f))
                for f in fields
            ]
        return self._members


def typed_dict(kind: Any, compile_: Compile) -> Converter:
    """Compile a TypedDict. Keys that it does not declare stay."""
    members: list[_Member] = []

    def check(value: Json, path: str) -> Any:
        if type(value) is not dict:
            raise mismatch(value, kind.__name__, path)
        if not members:
            hints = typing.get_type_hints(kind, include_extras=True)
            members.extend(
                _Member(name, compile_(hint), _is_optional(kind, name, hint)) for name, hint in hints.items()
            )
        return value | _members_of(value, members, kind.__name__, path)

    return check


def named_tuple(kind: Any, compile_: Compile) -> Converter:
    """Compile a named tuple, which JSON has as a list."""
    members: list[_Member] = []

    def check(value: Json, path: str) -> Any:
        if not members:
            hints = typing.get_type_hints(kind, include_extras=True)
            members.extend(
                _Member(name, compile_(hints.get(name, Any)), name in kind._field_defaults)
                for name in kind._fields
            )
        if type(value) is list and len(value) <= len(members):
            value = dict(zip(kind._fields, value, strict=False))
        if type(value) is not dict:
            raise mismatch(value, kind.__name__, path)
        return kind(**_members_of(value, members, kind.__name__, path))

    return check


def struct(kind: Any) -> Converter:
    """Compile a struct of msgspec, by its own rules."""
    import msgspec

    def check(value: Json, path: str) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise _no_record(value, kind, path, str(error)) from error

    return check


def model(kind: Any) -> Converter:
    """Compile a model of pydantic, by its own rules for JSON."""

    def check(value: Json, path: str) -> Any:
        try:
            return kind.model_validate(value)
        except ValueError as error:
            try:
                # A strict model takes a list for a set, and a str for a datetime, from JSON alone.
                return kind.model_validate_json(encode(value, path))
            except ValueError:
                raise _no_record(value, kind, path, _told(error)) from error

    return check


def _members_of(value: Json, members: list[_Member], record: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, check, has_default in members:
        if name in value:
            found[name] = value[name] if check is None else check(value[name], f"{path}.{name}")
        elif not has_default:
            raise InvalidState(
                f"the field {path!r} is declared as {record} and lacks {name!r}; it holds {shown(value)}"
            )
    return found


def _no_record(value: Json, kind: Any, path: str, reason: str) -> InvalidState:
    name = getattr(kind, "__name__", str(kind))
    return InvalidState(f"the field {path!r} is no {name}: {reason}; it holds {shown(value)}")


def _told(error: ValueError) -> str:
    """The errors of a model in one line, each with its place."""
    errors = error.errors() if hasattr(error, "errors") else []
    told = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors]
    return "; ".join(told) or str(error)


def _is_optional(kind: Any, name: str, hint: Any) -> bool:
    """What the class knows of its keys is wrong where its annotations are texts, so the annotation goes before."""
    origin = typing.get_origin(hint)
    if origin in (typing.Required, typing.NotRequired):
        return origin is typing.NotRequired
    return name in kind.__optional_keys__


def _is_argument(field: Any) -> bool:
    return typing.get_origin(field.type) is not typing.ClassVar and "CLASSVAR" not in repr(field._field_type)


def _has_default(field: Any) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _bound(hint: Any, arguments: Mapping[Any, Any]) -> Any:
    """The hint with what its type variables stand for, and without the wrapping of an init-only variable."""
    if isinstance(hint, dataclasses.InitVar):
        hint = hint.type
    if hint in arguments:
        return arguments[hint]
    free = getattr(hint, "__parameters__", ())
    if not arguments or not free:
        return hint
    return hint[tuple(arguments.get(variable, Any) for variable in free)]
