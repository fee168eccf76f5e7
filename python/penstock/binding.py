"""A task's parameters, bound from the state by name and annotation, and what it returns, merged into it."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from penstock.conversion import converter_of
from penstock.errors import InvalidState
from penstock.flow import Flow
from penstock.scalars import Converter

_MISSING = inspect.Parameter.empty


class _Parameter(typing.NamedTuple):
    """One parameter that takes its value from the field of its name."""

    name: str
    check: Converter | None
    default: Any


class Needs(typing.NamedTuple):
    """What a task can be seen to need of the state. A wrong guess costs a fetch, never a wrong value."""

    fields: list[str] | None
    """The fields that its parameters name; None for everything."""
    takes_flow: bool


EVERYTHING = Needs(None, True)


def needs_of(function: Callable[..., Any]) -> Needs:
    """Say what a task needs, before it is ever called: what cannot be told from its parameters is everything."""
    try:
        parameters = list(_parameters(function))
    except Exception:  # noqa: BLE001 - a signature or an annotation may not be there to be looked at yet
        return EVERYTHING
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter, _ in parameters):
        return EVERYTHING
    named = [parameter.name for parameter, annotation in parameters if not _is_carrier(annotation)]
    return Needs(named, len(named) < len(parameters))


class Binding:
    """How one function is called with a flow. Compiled at the first call, when its module is complete."""

    __slots__ = ("_by_place", "_carriers", "_fields", "_is_compiled", "_rest", "function")

    def __init__(self, function: Callable[..., Any]) -> None:
        """Make the binding of a function, which is not looked at yet."""
        self.function = function
        self._is_compiled = False
        self._fields: list[_Parameter] = []
        self._carriers: list[str] = []
        self._by_place: list[str] = []
        self._rest = False

    def call(self, flow: Flow) -> Any:
        """Call the function with its parameters taken from the flow; an async one gives its coroutine.

        Raises:
            InvalidState: A field is missing, or not of the declared type.
        """
        arguments = self.arguments(flow)
        if not self._by_place:
            return self.function(**arguments)
        places = [arguments.pop(name) for name in self._by_place]
        return self.function(*places, **arguments)

    def arguments(self, flow: Flow) -> dict[str, Any]:
        """Give the arguments by parameter name, those of `**kwargs` among them."""
        if not self._is_compiled:
            self._compile()
        found: dict[str, Any] = {}
        for name, check, default in self._fields:
            try:
                value = flow[name]
            except KeyError:
                found[name] = self._absent(name, default)
            else:
                found[name] = value if check is None else check(value, name)
        for name in self._carriers:
            found[name] = flow
        if self._rest:
            found.update({name: value for name, value in flow.as_dict().items() if name not in found})
        return found

    def _absent(self, name: str, default: Any) -> Any:
        if default is _MISSING:
            task = getattr(self.function, "__name__", "the task")
            raise InvalidState(
                f"{task} needs the field {name!r}, which the state does not have; write it before, or give the "
                "parameter a default"
            )
        return default

    def _compile(self) -> None:
        for parameter, annotation in _parameters(self.function):
            name = parameter.name
            if parameter.kind is parameter.VAR_KEYWORD:
                self._rest = True
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                self._by_place.append(name)
            if _is_carrier(annotation):
                self._carriers.append(name)
            else:
                self._fields.append(_Parameter(name, _converter(annotation), _default(parameter, annotation)))
        self._is_compiled = True


def merge_returned(flow: Flow, returned: Any) -> None:
    """Merge what a task returned into its flow.

    Raises:
        InvalidState: It is neither a mapping nor None, or a value in it has no form in JSON.
    """
    if returned is None or returned is flow:
        return
    if not isinstance(returned, Mapping):
        raise InvalidState(
            f"a task returns a mapping of fields or None, and this one returned {type(returned).__name__}; "
            "return {'field': value}"
        )
    for field, value in returned.items():
        flow[field] = value


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling the function gives a coroutine."""
    if inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(function):
        return True
    call = getattr(function, "__call__", None)  # noqa: B004 - the method is looked at, not whether it is there
    return inspect.iscoroutinefunction(call)


def _parameters(function: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Give the parameters that a binding fills or passes on, with their annotations as far as they resolve."""
    hints = _hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        annotation = hints.get(name, parameter.annotation)
        # A lambda can annotate nothing.
        is_bare = annotation is _MISSING and parameter.default is _MISSING
        is_carrier = name == "flow" and is_bare and parameter.kind is not parameter.VAR_KEYWORD
        yield parameter, Flow if is_carrier else annotation


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Resolve the annotations; each alone when one of them names what is only there for a type checker."""
    target = inspect.unwrap(getattr(function, "func", function))
    if not isinstance(target, (types.FunctionType, types.MethodType)):
        target = getattr(target, "__call__", target)  # noqa: B004 - an object's call has the annotations
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation may be any expression
        return {name: _resolve(target, hint) for name, hint in getattr(target, "__annotations__", {}).items()}


def _resolve(target: Any, hint: Any) -> Any:
    if not isinstance(hint, str):
        return hint
    hint = hint.strip("'\"")  # quoted although all annotations are texts
    module = sys.modules.get(getattr(target, "__module__", ""))
    try:
        return eval(hint, vars(module) if module else {})
    except Exception:  # noqa: BLE001 - what cannot be resolved is not checked
        return Flow if hint.rsplit(".", 1)[-1] == "Flow" else Any


def _is_carrier(annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation is Flow or (isinstance(annotation, type) and issubclass(annotation, Flow))


def _converter(annotation: Any) -> Converter | None:
    return None if isinstance(annotation, str) else converter_of(annotation)


def _default(parameter: inspect.Parameter, annotation: Any) -> Any:
    """A null in a state is an absent field, so a parameter that may be None needs no default."""
    if parameter.default is not _MISSING:
        return parameter.default
    is_optional = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return None if is_optional and type(None) in typing.get_args(annotation) else _MISSING
