"""Values of a state made into what an annotation says, and refused when they are not that.

An annotation is compiled once into a converter; None stands for "anything goes". JSON's types are checked
exactly: a bool is no int, an int may stand for a float, and a str is parsed only where the annotation has no form of
its own in JSON, as a datetime.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from penstock import records
from penstock.encoding import Json, shown
from penstock.errors import InvalidState
from penstock.scalars import SCALARS, Converter, mismatch

_LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
    collections.deque: collections.deque,
}
_OBJECTS = (dict, collections.OrderedDict, collections.abc.Mapping, collections.abc.MutableMapping)


def convert(value: Json, annotation: Any, path: str) -> Any:
    """Make a value into what an annotation says.

    Raises:
        InvalidState: The value is not that; the message names the path.
    """
    check = converter_of(annotation)
    return value if check is None else check(value, path)


def converter_of(annotation: Any) -> Converter | None:
    """Compile an annotation; None where every value passes as it is."""
    try:
        return _compiled(annotation)
    except TypeError:
        return _compile(annotation)


def _compile(annotation: Any) -> Converter | None:
    if annotation in (Any, object, inspect.Parameter.empty):
        return None
    if annotation is None or annotation is type(None):
        return _exact(type(None), "None")
    origin = typing.get_origin(annotation)
    if origin is not None:
        return _compile_generic(annotation, origin, typing.get_args(annotation))
    for alias in ("__supertype__", "__value__", "__bound__"):  # NewType, `type X = …`, TypeVar
        if hasattr(annotation, alias) and not isinstance(annotation, type):
            return converter_of(getattr(annotation, alias) or Any)
    return _compile_class(annotation)


_compiled = lru_cache(maxsize=1024)(_compile)


def _compile_class(annotation: Any) -> Converter:
    if annotation in (int, str, bool):
        return _exact(annotation, annotation.__name__)
    if annotation in SCALARS:
        return SCALARS[annotation]
    if annotation in _LISTS or annotation is tuple:
        return _list_of(Any, _LISTS.get(annotation, tuple), annotation.__name__)
    if annotation in _OBJECTS:
        return _dict_of(str, Any, annotation)
    if annotation is getattr(typing, "LiteralString", str):
        return _exact(str, "str")
    return (_compile_record(annotation) if isinstance(annotation, type) else None) or _unreadable(annotation)


def _compile_record(kind: type) -> Converter | None:
    if typing.is_typeddict(kind):
        return records.typed_dict(kind, converter_of)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return records.named_tuple(kind, converter_of)
    if issubclass(kind, enum.Enum):
        return _enum(kind)
    if dataclasses.is_dataclass(kind):
        return records.Dataclass(kind, converter_of)
    if hasattr(kind, "__struct_fields__"):
        return records.struct(kind)
    return records.model(kind) if hasattr(kind, "model_validate") else None


def _compile_generic(annotation: Any, origin: Any, args: tuple[Any, ...]) -> Converter | None:
    if origin in (typing.Union, types.UnionType):
        return _union(args)
    if origin is typing.Annotated:
        return converter_of(args[0])
    if origin in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
        return converter_of(args[0])
    if origin is typing.Literal:
        return _literal(args)
    if origin is tuple:
        is_open = len(args) == 2 and args[1] is Ellipsis
        return _list_of(args[0], tuple, "tuple") if is_open else _tuple_of(args)
    if origin in _LISTS:
        return _list_of(args[0] if args else Any, _LISTS[origin], origin.__name__)
    if origin in _OBJECTS:
        key, member = args or (str, Any)
        return _dict_of(key, member, origin)
    if dataclasses.is_dataclass(origin):
        return records.Dataclass(
            origin, converter_of, dict(zip(getattr(origin, "__parameters__", ()), args, strict=False))
        )
    return records.struct(annotation) if hasattr(origin, "__struct_fields__") else converter_of(origin)


def _exact(kind: type, name: str) -> Converter:
    def check(value: Json, path: str) -> Any:
        if type(value) is not kind:
            raise mismatch(value, name, path)
        return value

    return check


def _list_of(member: Any, make: Callable[[list[Any]], Any], name: str) -> Converter:
    check = converter_of(member)

    def convert_list(value: Json, path: str) -> Any:
        if type(value) is not list:
            raise mismatch(value, name, path)
        items = value
        if check is not None:
            items = [check(item, f"{path}[{place}]") for place, item in enumerate(value)]
        elif make is list:
            return value
        try:
            return make(items)
        except TypeError:
            raise InvalidState(
                f"the field {path!r} is declared as {name} and holds {shown(value)}, which has members that no {name} "
                "can have"
            ) from None

    return convert_list


def _tuple_of(members: tuple[Any, ...]) -> Converter:
    def convert_tuple(value: Json, path: str) -> Any:
        if type(value) is not list or len(value) != len(members):
            raise mismatch(value, f"tuple of {len(members)}", path)
        pairs = enumerate(zip(value, members, strict=True))
        return tuple(convert(item, member, f"{path}[{place}]") for place, (item, member) in pairs)

    return convert_tuple


def _dict_of(key: Any, member: Any, kind: Any) -> Converter:
    check = converter_of(member)
    check_key = _key_of(key)
    make = kind if kind is collections.OrderedDict else None

    def convert_dict(value: Json, path: str) -> Any:
        if type(value) is not dict:
            raise mismatch(value, kind.__name__, path)
        found = value
        if check is not None:
            found = {name: check(item, f"{path}.{name}") for name, item in value.items()}
        if check_key is not None:
            found = {check_key(name, f"{path}.{name}"): item for name, item in found.items()}
        return found if make is None else make(found)

    return convert_dict


def _key_of(annotation: Any) -> Converter | None:
    """Compile what a key is made into; JSON knows str only, and writes an int as one."""
    if annotation is str or converter_of(annotation) is None:
        return None
    if annotation is not int:
        return converter_of(annotation)

    def number(text: Json, path: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = None
        if found is None or str(found) != text:
            raise InvalidState(f"the key {path!r} is declared as int and is {shown(text)}")
        return found

    return number


def _union(options: tuple[Any, ...]) -> Converter | None:
    checks = [(option, converter_of(option)) for option in options]
    if any(check is None for _, check in checks):
        return None
    if len(checks) == 2 and type(None) in options:
        return _optional(next(check for option, check in checks if option is not type(None)))
    scalars = {option for option in options if option in (int, float, str, bool, type(None))}
    names = " | ".join(_name(option) for option in options)

    def convert_union(value: Json, path: str) -> Any:
        if type(value) in scalars:
            return value
        for _, check in checks:
            try:
                return check(value, path)  # type: ignore[misc]  # none is None, as seen above
            except InvalidState:
                continue
        raise mismatch(value, names, path)

    return convert_union


def _optional(check: Converter | None) -> Converter:
    assert check is not None

    def convert_optional(value: Json, path: str) -> Any:
        return None if value is None else check(value, path)

    return convert_optional


def _literal(choices: tuple[Any, ...]) -> Converter:
    def check(value: Json, path: str) -> Any:
        for choice in choices:
            plain = choice.value if isinstance(choice, enum.Enum) else choice
            if type(plain) is type(value) and plain == value:
                return choice
        allowed = ", ".join(map(repr, choices))
        raise InvalidState(f"the field {path!r} is one of {allowed} and holds {shown(value)}")

    return check


def _enum(kind: type[enum.Enum]) -> Converter:
    def check(value: Json, path: str) -> Any:
        try:
            found = kind(tuple(value) if type(value) is list else value)
        except (ValueError, TypeError):
            found = None
        if found is None or (type(value) is bool) != (type(found.value) is bool):
            members = ", ".join(shown(member.value) for member in kind)
            raise InvalidState(
                f"the field {path!r} holds {shown(value)}, which no {kind.__name__} is; it has {members:.200}"
            )
        return found

    return check


def _unreadable(annotation: Any) -> Converter:
    def refuse(value: Json, path: str) -> Any:
        if isinstance(annotation, type) and isinstance(value, annotation):
            return value
        raise InvalidState(
            f"the field {path!r} is declared as {_name(annotation)}, which is not made from JSON; declare a JSON "
            "type, a dataclass or a model"
        )

    return refuse


def _name(annotation: Any) -> str:
    return "None" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))
