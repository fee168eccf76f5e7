"""Worker numbers: small, and never used twice in a process, whatever pool they belong to."""

from __future__ import annotations

import itertools

_counter = itertools.count(1)


def next_worker() -> int:
    """Give the next number."""
    return next(_counter)
