"""The words that somebody gives for what he does to a flow."""

from __future__ import annotations

from penstock.errors import Invalid

MAX_REASON_BYTES = 4_096


def read_reason(reason: str) -> str:
    """Give a reason without the blanks around it; refuse what no text column can hold, or is too long to be one."""
    if not isinstance(reason, str):
        raise Invalid(f"reason is {reason!r}: give a string")
    if "\0" in reason:
        raise Invalid(f"reason is {reason!r}: a NUL character cannot be stored, remove it")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError as error:
        raise Invalid(f"reason is {reason!r}: a lone surrogate cannot be stored, replace it") from error
    if size > MAX_REASON_BYTES:
        raise Invalid(f"reason is {size} bytes long: at most {MAX_REASON_BYTES} fit")
    return reason.strip()
