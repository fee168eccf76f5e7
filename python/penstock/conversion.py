"""Values of a state made into what an annotation says, and refused when they are not that.

An annotation is compiled once into a converter; None stands for "anything goes". JSON's types are checked
exactly: a bool is no int, an int may stand for a float, and nothing is parsed out of a str.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from penstock.encoding import Json
from penstock.errors import InvalidState

Converter = Callable[[Json, str], Any]
"""Takes a value and its path, gives what the annotation says, or raises InvalidState."""

_NAMES = {
    dict: "object",
    list: "list",
    str: "str",
    bool: "bool",
    int: "int",
    float: "float",
    type(None): "null",
}
_LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
}
_OBJECTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


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


def _mismatch(value: Json, wanted: str, path: str) -> InvalidState:
    found = _NAMES.get(type(value), type(value).__name__)
    return InvalidState(f"the field {path!r} is declared as {wanted} and holds {found}")


def _compile(annotation: Any) -> Converter | None:
    if annotation in (Any, object, inspect.Parameter.empty):
        return None
    if annotation is None or annotation is type(None):
        return _exact(type(None), "None")
    origin = typing.get_origin(annotation)
    if origin is not None:
        return _compile_generic(origin, typing.get_args(annotation))
    for alias in ("__supertype__", "__value__", "__bound__"):  # NewType, `type X = …`, TypeVar
        if hasattr(annotation, alias) and not isinstance(annotation, type):
            return converter_of(getattr(annotation, alias) or Any)
    return _compile_class(annotation)


_compiled = lru_cache(maxsize=1024)(_compile)


def _compile_class(annotation: Any) -> Converter:
    if annotation is float:
        return _float
    if annotation in (int, str, bool):
        return _exact(annotation, annotation.__name__)
    if annotation in _LISTS or annotation is tuple:
        return _list_of(Any, _LISTS.get(annotation, tuple), annotation.__name__)
    if annotation in _OBJECTS or typing.is_typeddict(annotation):
        return _exact(dict, annotation.__name__)
    if isinstance(annotation, type):
        if issubclass(annotation, enum.Enum):
            return _enum(annotation)
        if dataclasses.is_dataclass(annotation):
            return _Dataclass(annotation)
        if hasattr(annotation, "__struct_fields__"):
            return _struct(annotation)
        if hasattr(annotation, "model_validate"):
            return _model(annotation)
    return _unreadable(annotation)


def _compile_generic(origin: Any, args: tuple[Any, ...]) -> Converter | None:
    if origin in (typing.Union, types.UnionType):
        return _union(args)
    if origin is typing.Annotated:
        return converter_of(args[0])
    if origin in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
        return converter_of(args[0])
    if origin is typing.Literal:
        return _literal(args)
    if origin is tuple:
        return _list_of(args[0], tuple, "tuple") if args[-1] is Ellipsis else _tuple_of(args)
    if origin in _LISTS:
        return _list_of(args[0], _LISTS[origin], origin.__name__)
    if origin in _OBJECTS:
        return _dict_of(args[1])
    return converter_of(origin)


def _exact(kind: type, name: str) -> Converter:
    def check(value: Json, path: str) -> Any:
        if type(value) is not kind:
            raise _mismatch(value, name, path)
        return value

    return check


def _float(value: Json, path: str) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise _mismatch(value, "float", path)
    try:
        return float(value)
    except OverflowError:
        raise InvalidState(
            f"the field {path!r} is declared as float and holds an int beyond its range"
        ) from None


def _list_of(member: Any, make: Callable[[list[Any]], Any], name: str) -> Converter:
    check = converter_of(member)

    def convert_list(value: Json, path: str) -> Any:
        if type(value) is not list:
            raise _mismatch(value, name, path)
        if check is None:
            return value if make is list else make(value)
        return make([check(item, f"{path}[{place}]") for place, item in enumerate(value)])

    return convert_list


def _tuple_of(members: tuple[Any, ...]) -> Converter:
    def convert_tuple(value: Json, path: str) -> Any:
        if type(value) is not list or len(value) != len(members):
            raise _mismatch(value, f"tuple of {len(members)}", path)
        pairs = enumerate(zip(value, members, strict=True))
        return tuple(convert(item, member, f"{path}[{place}]") for place, (item, member) in pairs)

    return convert_tuple


def _dict_of(member: Any) -> Converter:
    check = converter_of(member)

    def convert_dict(value: Json, path: str) -> Any:
        if type(value) is not dict:
            raise _mismatch(value, "dict", path)
        return value if check is None else {key: check(item, f"{path}.{key}") for key, item in value.items()}

    return convert_dict


def _union(options: tuple[Any, ...]) -> Converter | None:
    checks = [(option, converter_of(option)) for option in options]
    if any(check is None for _, check in checks):
        return None
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
        raise _mismatch(value, names, path)

    return convert_union


def _literal(choices: tuple[Any, ...]) -> Converter:
    def check(value: Json, path: str) -> Any:
        for choice in choices:
            if type(choice) is type(value) and choice == value:
                return value
        allowed = ", ".join(map(repr, choices))
        raise InvalidState(f"the field {path!r} is one of {allowed} and holds {value!r:.100}")

    return check


def _enum(kind: type[enum.Enum]) -> Converter:
    def check(value: Json, path: str) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise InvalidState(
                f"the field {path!r} holds {value!r:.100}, which no {kind.__name__} is"
            ) from None

    return check


class _Dataclass:
    """Makes instances of one dataclass; its fields are compiled at the first, since types may be recursive."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._checks: list[tuple[str, Converter | None, bool]] | None = None

    def __call__(self, value: Json, path: str) -> Any:
        if type(value) is not dict:
            raise _mismatch(value, self._kind.__name__, path)
        found: dict[str, Any] = {}
        for name, check, has_default in self._compiled():
            if name in value:
                found[name] = value[name] if check is None else check(value[name], f"{path}.{name}")
            elif not has_default:
                raise InvalidState(
                    f"the field {path!r} is declared as {self._kind.__name__} and lacks {name!r}"
                )
        return self._kind(**found)

    def _compiled(self) -> list[tuple[str, Converter | None, bool]]:
        if self._checks is None:
            hints = typing.get_type_hints(self._kind)
            missing = dataclasses.MISSING
            self._checks = [
                (
                    f.name,
                    converter_of(hints[f.name]),
                    f.default is not missing or f.default_factory is not missing,
                )
                for f in dataclasses.fields(self._kind)
                if f.init
            ]
        return self._checks


def _struct(kind: type) -> Converter:
    import msgspec

    def check(value: Json, path: str) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise InvalidState(f"the field {path!r} is no {kind.__name__}: {error}") from error

    return check


def _model(kind: Any) -> Converter:
    def check(value: Json, path: str) -> Any:
        try:
            return kind.model_validate(value)
        except ValueError as error:
            raise InvalidState(f"the field {path!r} is no {kind.__name__}: {error}") from error

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
