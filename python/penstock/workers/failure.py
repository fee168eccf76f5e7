"""An exception of a task as it travels to the engine: type, message, traceback and class."""

from __future__ import annotations

import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import penstock
from penstock.encoding import decode, encode
from penstock.errors import InvalidState, PenstockError, Permanent, RateLimited, Retryable, Unavailable
from penstock.flow import milliseconds
from penstock.workers.main_import import MAIN_NAME

_MAX_TRACEBACK = 16 << 10
_MAX_MESSAGE = 4 << 10
_MAX_BASES = 32
_OWN_FILES = str(Path(penstock.__file__).parent)

_CLASSES: tuple[tuple[type[BaseException], str], ...] = (
    (Retryable, "retryable"),
    (Permanent, "permanent"),
    (RateLimited, "rate_limited"),
    (Unavailable, "unavailable"),
)


def failure_json(error: BaseException) -> str:
    """Give the error object of a result: it always can be made, whatever the exception does."""
    return encode(_failure(error), "the error")


def cancelled() -> Permanent:
    """The error of an attempt that is no longer wanted."""
    return Permanent("cancelled", "the attempt was cancelled while it ran")


def _failure(error: BaseException) -> dict[str, Any]:
    kind = next((name for base, name in _CLASSES if isinstance(error, base)), "error")
    failure: dict[str, Any] = {
        "code": str(error.code) if isinstance(error, PenstockError) else "error",
        "message": _message(error),
        "type": _type_name(type(error)),
        "bases": [_type_name(base) for base in type(error).__mro__[1:-1]][:_MAX_BASES],
        "traceback": _traceback(error),
        "retryable": kind in ("retryable", "rate_limited", "unavailable"),
        "class": kind,
    }
    data = getattr(error, "data", None) if isinstance(error, PenstockError) else None
    if data is not None:
        failure["data"] = _data(data)
    if isinstance(error, RateLimited) and error.retry_after is not None:
        failure["retry_after_ms"] = _retry_after_ms(error.retry_after)
    return failure


def _message(error: BaseException) -> str:
    try:
        text = error.message if isinstance(error, PenstockError) else str(error)
    except Exception as broken:  # noqa: BLE001 - an exception's __str__ is anybody's code
        text = f"(its text could not be made: {type(broken).__name__})"
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "…"


def _type_name(kind: type) -> str:
    module = "__main__" if kind.__module__ == MAIN_NAME else kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _data(data: Any) -> Any:
    try:
        return decode(encode(data, "the error's data"))
    except (InvalidState, ValueError):
        return repr(data)[:_MAX_MESSAGE]


def _retry_after_ms(retry_after: float | timedelta) -> int:
    try:
        return milliseconds(retry_after, "retry_after")
    except PenstockError:
        return 0


def _traceback(error: BaseException) -> str:
    """The traceback without the frames between the worker's loop and the task."""
    try:
        told = traceback.TracebackException.from_exception(error, compact=True)
        _trim(told, set())
        text = "".join(told.format())
    except Exception:  # noqa: BLE001 - a broken __str__ or source file must not cost the result
        text = ""
    if len(text) > _MAX_TRACEBACK:
        half = _MAX_TRACEBACK // 2
        text = text[:half] + "\n  …\n" + text[-half:]
    return text


def _trim(told: traceback.TracebackException, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    kept = [frame for frame in told.stack if not frame.filename.startswith(_OWN_FILES)]
    told.stack = traceback.StackSummary.from_list(kept)
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _trim(other, seen)
