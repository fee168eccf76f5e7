"""Every exception of Penstock, under one base.

::

    PenstockError                 code, message
    ├── NotFound                  not_found      a well-formed key that names nothing
    ├── Conflict                  conflict       somebody else won, or the status forbids it
    ├── Invalid                   invalid        a bad graph, state, option or key
    │   ├── InvalidState          invalid_state  a state that is no JSON, or not of the declared type
    │   └── CallOrder             call_order     a task that runs again made other calls than before
    ├── EngineUnavailable         unavailable    no engine, or no database, to do it now
    ├── WaitTimeout               timeout        the wait ended, the flow goes on: .flow_key
    ├── CorruptJournal            corrupt        bytes that no version has written
    └── TaskError                 raised by, or inside, a task
        ├── Retryable             its own code   a declared retry applies
        ├── Permanent             its own code   no declared retry applies
        ├── RateLimited           rate_limited   the downstream asks to slow down: .retry_after
        ├── Unavailable           unavailable    the downstream is away: .cause
        ├── SubgraphFailed        the child's    a child flow failed: .data
        └── InterruptTimeout      interrupt_timeout   nobody answered in time

Each can be made from one message alone, because the Rust core makes them so.
"""

# ruff: noqa: N818 - the names are the public contract; most are refusals, not errors

from __future__ import annotations

from datetime import timedelta
from typing import Any


class PenstockError(Exception):
    """The base: `code` is stable and for programs, `message` is a sentence for people."""

    code: str = "error"

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class NotFound(PenstockError):
    """A well-formed key that names nothing."""

    code = "not_found"


class Conflict(PenstockError):
    """Somebody else won, or the status of the flow forbids the operation."""

    code = "conflict"


class Invalid(PenstockError):
    """The input is wrong; nothing was stored."""

    code = "invalid"


class InvalidState(Invalid):
    """A field, a result or a payload is no JSON, or not of the type that the task declares."""

    code = "invalid_state"


class CallOrder(Invalid):
    """A task that ran again made another call at a place where an answer is recorded."""

    code = "call_order"


class EngineUnavailable(PenstockError):
    """Nobody can do it now: no engine runs, its workers do not start, or the database is away."""

    code = "unavailable"


class WaitTimeout(PenstockError):
    """A wait reached its timeout; what was waited for stands.

    Attributes:
        flow_key: The flow that was waited for, None where there is not one.
    """

    code = "timeout"

    def __init__(self, message: str = "", *, flow_key: str | None = None) -> None:
        super().__init__(message)
        self.flow_key = flow_key


class CorruptJournal(PenstockError):
    """Bytes that no released version has written: never the fault of a task or a caller."""

    code = "corrupt"


class TaskError(PenstockError):
    """The base of what tasks raise to classify a failure, and of what is raised inside them."""


class _CodedError(TaskError):
    """A task error that carries a code of the author's and JSON data.

    With a message alone (`Permanent("no such card")`) that one argument is the code, as in
    `Permanent("card_declined")`: the message is then the same text.
    """

    def __init__(self, code: str = "error", message: str = "", *, data: Any = None) -> None:
        super().__init__(message or code)
        self.code = code
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.code, self.message, self.data)


class Retryable(_CodedError):
    """The attempt failed in a way that another attempt may mend."""


class Permanent(_CodedError):
    """The attempt failed for good: no declared retry applies."""


class SubgraphFailed(_CodedError):
    """A child flow failed; code, message and data are those of its error."""


class RateLimited(TaskError):
    """The downstream asked to slow down; the attempt is not counted.

    Attributes:
        retry_after: Seconds or a timedelta after which the downstream wants to be asked again.
    """

    code = "rate_limited"

    def __init__(self, retry_after: float | timedelta | str | None = None) -> None:
        text = retry_after if isinstance(retry_after, str) else "the downstream limits its rate"
        super().__init__(text)
        self.retry_after = None if isinstance(retry_after, str) else retry_after


class Unavailable(TaskError):
    """The downstream is away; its steps wait until a probe goes through.

    Attributes:
        cause: What says so: a sentence or the exception of the client library.
    """

    code = "unavailable"

    def __init__(self, cause: str | BaseException = "the downstream is unavailable") -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.cause = cause


class InterruptTimeout(TaskError):
    """`interrupt` or `wait_signal` had a timeout and nobody answered before it."""

    code = "interrupt_timeout"


def _rebuild(kind: type[_CodedError], code: str, message: str, data: Any) -> _CodedError:
    return kind(code, message, data=data)
