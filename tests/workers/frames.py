"""The engine's side of the wire, written a second time: what the Rust codec says is checked against it."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

DONE, ERROR, PARKED, RETRY = range(4)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<IB", len(payload) + 1, kind) + payload


@dataclass(frozen=True)
class Step:
    """A step to send, with defaults for what a test does not care about."""

    dispatch: int
    task: str
    state: dict[str, Any] | str = field(default_factory=dict)
    calls: list[dict[str, Any]] | None = None
    changes: str = ""
    attempt: int = 0
    graph_no: int = 0
    left_out: str = ""
    budget_ms: int = 0

    def encode(self) -> bytes:
        head = struct.pack(
            "<QIIQqqq", self.dispatch, self.graph_no, self.attempt, 7, 1_000, 2_000, self.budget_ms
        )
        state = self.state if isinstance(self.state, str) else json.dumps(self.state)
        calls = "" if self.calls is None else json.dumps(self.calls)
        texts = ["0-flow", "node", self.task, "", state, self.changes, calls, self.left_out]
        return head + b"".join(map(_text, texts))


def steps(*items: Step) -> bytes:
    return _frame(1, struct.pack("<I", len(items)) + b"".join(item.encode() for item in items))


def graph(number: int, reducers: dict[str, str]) -> bytes:
    return _frame(2, struct.pack("<I", number) + _text(json.dumps(reducers)))


def cancel(dispatch: int) -> bytes:
    return _frame(3, struct.pack("<Q", dispatch))


STOP = _frame(4, b"")


def state(dispatch: int, fields: dict[str, Any] | None) -> bytes:
    """Fields of a step's state; None when its dispatch is not current any more."""
    return _frame(5, struct.pack("<Q", dispatch) + _text("" if fields is None else json.dumps(fields)))


@dataclass(frozen=True)
class Result:
    """A result, read."""

    dispatch: int
    outcome: int
    ran_us: int
    changes_text: str
    meta_text: str

    @property
    def changes(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.changes_text or "{}")
        return found

    @property
    def meta(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.meta_text or "{}")
        return found


class ResultReader:
    """Reads what a worker sends, from any pieces."""

    def __init__(self) -> None:
        self._rest = b""
        self.hello: dict[str, Any] | None = None
        self.frames = 0
        self.fetches: list[int] = []
        self.names: list[list[str] | None] = []

    def feed(self, data: bytes) -> list[Result]:
        self._rest += data
        results: list[Result] = []
        while len(self._rest) >= 4 and len(self._rest) >= 4 + (
            length := struct.unpack_from("<I", self._rest)[0]
        ):
            frame, self._rest = self._rest[4 : 4 + length], self._rest[4 + length :]
            self.frames += 1
            if frame[0] == 18:
                self.hello = json.loads(_take_text(frame, 1)[0])
            elif frame[0] == 19:
                self.fetches.append(struct.unpack_from("<Q", frame, 1)[0])
                self.names.append(json.loads(_take_text(frame, 9)[0] or "null"))
            else:
                results += _results(frame)
        return results


def _results(frame: bytes) -> list[Result]:
    assert frame[0] == 17
    (count,) = struct.unpack_from("<I", frame, 1)
    at = 5
    found = []
    for _ in range(count):
        dispatch, outcome, ran_us = struct.unpack_from("<QBI", frame, at)
        changes, at = _take_text(frame, at + 13)
        meta, at = _take_text(frame, at)
        found.append(Result(dispatch, outcome, ran_us, changes, meta))
    assert at == len(frame)
    return found


def _take_text(frame: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", frame, at)
    return frame[at + 4 : at + 4 + length].decode(), at + 4 + length
