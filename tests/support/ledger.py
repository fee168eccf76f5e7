"""A file to which tasks append one line each, independent of any database."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually


def note(path: str | os.PathLike[str], **entry: Any) -> None:
    """Append one entry. A single write below the pipe size: entries of several processes do not mix."""
    line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


class Ledger:
    """Read what tasks noted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[dict[str, Any]]:
        """All entries, in the order in which they were written; an unfinished last line is left out."""
        if not self.path.exists():
            return []
        whole, _, _ = self.path.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def counts(self, *names: str) -> Counter[tuple[Any, ...]]:
        """How often each combination of the named values was noted."""
        return Counter(tuple(entry[name] for name in names) for entry in self.entries())

    def wait_for(self, number: int, *, deadline: float = 30.0) -> list[dict[str, Any]]:
        """Wait until at least `number` entries stand there."""

        def enough() -> list[dict[str, Any]]:
            entries = self.entries()
            return entries if len(entries) >= number else []

        return eventually(enough, what=f"{number} entries in {self.path.name}", deadline=deadline)
