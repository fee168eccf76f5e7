"""What one attempt of a step sees of the state, and what it changes, field by field.

A field is one of three: as the step found it, contributed to (reduced fields), or set or deleted by this
step. Within a step a later change of a field replaces the earlier one, whatever attempt made it; reducers
are applied by the engine when the step has finished, and here only for reading.

The engine sends a task what it is seen to need, and says what it left out. The first look at such a field fetches it, and
the first look at all of them fetches the whole state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from penstock.encoding import Json, decode, encode
from penstock.errors import InvalidState

CONTRIBUTED: Final = "set"
OVERWRITTEN: Final = "overwrite"
DELETED: Final = "del"

TOO_MANY: Final = "*"

_ABSENT: Final = object()


class Fields:
    """The fields of one attempt."""

    __slots__ = ("_base", "_changes", "_earlier", "_fetch", "_left_out", "_reducers", "_seen", "_state")

    def __init__(
        self,
        state: str,
        reducers: Mapping[str, str],
        earlier: str = "",
        fetch: Callable[[str], str] | None = None,
        left_out: str = TOO_MANY,
    ) -> None:
        """Make the fields of an attempt.

        Args:
            state: What the step sees, a JSON object, without its own changes.
            reducers: Field to reducer name, of the fields that have one.
            earlier: Changes of earlier attempts in the journal's form, or empty.
            fetch: Gives the rest when `state` is a part, in which a null is a field known to be absent: the fields of
                a JSON list of names, or all.
            left_out: The fields that `state` lacks, a JSON list; `*` when they are too many to name.
        """
        self._state = state
        self._fetch = fetch
        self._left_out = left_out
        self._reducers = reducers
        self._base: dict[str, Json] | None = None
        self._earlier = _earlier_changes(earlier) if earlier else {}
        self._changes: dict[str, tuple[str, str]] = {}
        self._seen: dict[str, Json] = {}

    def is_reduced(self, field: str) -> bool:
        """Whether the graph has a reducer for the field."""
        return self._reducers.get(field, "replace") != "replace"

    def read(self, field: str) -> Json:
        """Give a field's value with this step's own changes.

        Raises:
            KeyError: The state has no such field.
        """
        change = self._changes.get(field) or self._earlier.get(field)
        if change is None:
            return self._found(field)
        value = self._seen.get(field, _ABSENT)
        if value is _ABSENT:
            value = self._seen[field] = self._changed(field, *change)
        if value is None:
            raise KeyError(field)
        return value

    def write(self, field: str, value: Json) -> None:
        """Contribute to a reduced field, set any other; None deletes, or contributes nothing."""
        _check_name(field)
        is_withdrawn = value is None and field in self._earlier and self.is_reduced(field)
        if value is not None or is_withdrawn:
            self._change(field, CONTRIBUTED, encode(value, f"the field {field!r}"))
        elif self.is_reduced(field):
            self._changes.pop(field, None)
            self._seen.pop(field, None)
        else:
            self._change(field, DELETED, "null")

    def overwrite(self, field: str, value: Json) -> None:
        """Replace a field whatever its reducer; None removes it."""
        _check_name(field)
        self._change(field, OVERWRITTEN, encode(value, f"the field {field!r}"))

    def delete(self, field: str) -> None:
        """Remove a field.

        Raises:
            InvalidState: The field is reduced.
            KeyError: The state has no such field.
        """
        if self.is_reduced(field):
            raise InvalidState(
                f"the field {field!r} has the reducer {self._reducers[field]!r} and cannot be deleted; "
                f"flow.overwrite({field!r}, None) removes it on purpose"
            )
        if field not in self:
            raise KeyError(field)
        self._change(field, DELETED, "null")

    def names(self) -> list[str]:
        """The names of all present fields: those found first, in their order."""
        changed = [*self._earlier, *self._changes]
        return [name for name in dict.fromkeys([*self._whole(), *changed]) if name in self]

    def found(self) -> dict[str, Json] | None:
        """The state as found when this step has changed nothing, not a copy; else None."""
        return None if self._changes or self._earlier else self._whole()

    def changes_json(self) -> str:
        """This attempt's changes as a worker sends them, empty for none."""
        if not self._changes:
            return ""
        parts: dict[str, list[str]] = {}
        for field, (kind, text) in self._changes.items():
            name = encode(field, "a field's name")
            parts.setdefault(kind, []).append(name if kind == DELETED else f"{name}:{text}")
        return "{" + ",".join(_member(kind, items) for kind, items in parts.items()) + "}"

    def __contains__(self, field: object) -> bool:
        if self._is_known_to_be_left_out(field):
            return True
        try:
            self.read(field)  # type: ignore[arg-type]  # any object may be looked for
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _found(self, field: str) -> Json:
        """Give a field as the step found it.

        Raises:
            KeyError: The state has no such field.
        """
        base = self._sent()
        if field not in base and self._fetch is not None and self._may_be_left_out(field):
            base[field] = decode(self._fetch(encode([field], "a field's name"))).get(field)
        value = base.get(field)
        if value is None:
            raise KeyError(field)
        return value

    def _sent(self) -> dict[str, Json]:
        if self._base is None:
            self._base = decode(self._state) if self._state else {}
        return self._base

    def _may_be_left_out(self, field: str) -> bool:
        return self._left_out == TOO_MANY or field in decode(self._left_out)

    def _is_known_to_be_left_out(self, field: object) -> bool:
        """Whether the field is there, unchanged, and has not been fetched."""
        if self._fetch is None or self._left_out == TOO_MANY or not isinstance(field, str):
            return False
        is_touched = field in self._changes or field in self._earlier or field in self._sent()
        return not is_touched and field in decode(self._left_out)

    def _whole(self) -> dict[str, Json]:
        """Give the state as the step found it, all of it; what was read before stays the same object."""
        sent, fetch = self._sent(), self._fetch
        if fetch is not None:
            fetched = decode(fetch(""))
            self._base = fetched | {field: value for field, value in sent.items() if field in fetched}
            self._fetch = None
        assert self._base is not None
        return self._base

    def _change(self, field: str, kind: str, text: str) -> None:
        self._changes[field] = (kind, text)
        self._seen.pop(field, None)

    def _changed(self, field: str, kind: str, text: str) -> Json:
        if kind == DELETED:
            return None
        if kind == CONTRIBUTED and self.is_reduced(field):
            return self._folded(field, text)
        return decode(text)

    def _folded(self, field: str, text: str) -> Json:
        """What the field will be once the engine has folded this step's contribution."""
        from penstock._core import reduce

        try:
            found = encode(self._found(field), f"the field {field!r}").encode()
        except KeyError:
            found = None
        return decode(reduce(self._reducers[field], found, [text.encode()]))


def _earlier_changes(journal: str) -> dict[str, tuple[str, str]]:
    """Read the journal's form: add is a contribution, set an overwrite, del a deletion."""
    recorded = decode(journal)
    changes = {field: (CONTRIBUTED, encode(value, field)) for field, value in recorded.get("add", {}).items()}
    for field, value in recorded.get("set", {}).items():
        changes[field] = (OVERWRITTEN, encode(value, field))
    return changes | dict.fromkeys(recorded.get("del", ()), (DELETED, "null"))


def _member(kind: str, items: list[str]) -> str:
    joined = ",".join(items)
    return f'"{kind}":[{joined}]' if kind == DELETED else f'"{kind}":{{{joined}}}'


def _check_name(field: object) -> None:
    if not isinstance(field, str):
        raise InvalidState(f"a field's name is a str, not {field!r}")
