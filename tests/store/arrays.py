"""The arrays of a fake batch, by another hand than the core's."""

import struct
from collections import Counter
from typing import Any

from penstock.store.dialects.postgresql.parameters import GROUPS
from penstock.store.dialects.postgresql.statement import DELETES, UPDATES

OIDS = {"bool": 16, "bytea": 17, "int8": 20, "int2": 21, "int4": 23, "text": 25, "float8": 701, "uuid": 2950}
FORMS = {"bool": "!?", "int8": "!q", "int2": "!h", "int4": "!i", "float8": "!d"}


def element(kind: str, value: Any) -> bytes:
    if value is None:
        return struct.pack("!i", -1)
    if kind in FORMS:
        data = struct.pack(FORMS[kind], value)
    elif kind == "text":
        if not isinstance(value, str):
            raise TypeError(f"{type(value).__name__} is no text")
        data = value.encode()
    else:
        data = bytes(value)
    return struct.pack("!i", len(data)) + data


def array(kind: str, values: list[Any]) -> bytes:
    return struct.pack("!iiIii", 1, 1, OIDS[kind], len(values), 1) + b"".join(
        element(kind, v) for v in values
    )


def touched(batch: Any) -> dict[bytes, dict[str, Any]]:
    """What the batch does to each live row that it does not insert."""
    new = {row[0] for row in batch.flows}
    found: dict[bytes, dict[str, Any]] = {}

    def touch(flow_id: bytes) -> dict[str, Any]:
        kinds = dict(GROUPS[2].columns)
        blank = {name: False if kind == "bool" else None for name, kind in kinds.items()}
        blank |= {"u": batch.unit(flow_id), "flow_id": flow_id, "claims": 0, "messages": 0}
        return found.setdefault(flow_id, blank)

    for flow_id, _owner, claims, mail in batch.live_deletes:
        touch(flow_id).update(is_owned=True, claims=claims, seen=mail, is_deleted=True)
    for ready_at, wake_at, flow_id, owner, claims, mail in batch.releases:
        # A claim number that nobody can have stands for an owner who is not the writer.
        touch(flow_id).update(
            is_owned=True,
            claims=claims if owner < 900 else -1,
            seen=mail,
            is_released=True,
            ready_at=ready_at,
            wake_at=wake_at,
        )
    for flow_id, _owner, claims in batch.calmed:
        touch(flow_id).update(is_owned=True, claims=claims, is_calmed=True)
    for flow_id, _kind, _body, _sender, at in batch.messages:
        row = touch(flow_id)
        row["messages"] += 1
        row["message_at"] = at if row["message_at"] is None else min(at, row["message_at"])
    for _at, _verdict, flow_id, _seq in batch.verdicts:
        touch(flow_id)["is_answered"] = True
    return {flow_id: row for flow_id, row in found.items() if flow_id not in new}


def groups(batch: Any, rows: dict[bytes, dict[str, Any]]) -> list[list[tuple[Any, ...]]]:
    unit = batch.unit
    live = {row[0]: row for row in batch.live}
    numbers: Counter[bytes] = Counter()
    messages = []
    for flow_id, kind, body, sender, at in batch.messages:
        if not rows.get(flow_id, {}).get("is_deleted"):
            numbers[flow_id] += 1
            messages.append((unit(flow_id), flow_id, numbers[flow_id], kind, body, sender, at))
    first_message = {row[1]: row[6] for row in reversed(messages)}
    creates = []
    for flow in batch.flows:
        _, owner, claims, crashes, _, _, _, ready_at, wake_at, mail, mail_at, _, format_ = live[flow[0]]
        mail, mail_at = mail + numbers[flow[0]], mail_at or first_message.get(flow[0])
        creates.append(
            (unit(flow[0]), *flow, owner, claims, crashes, ready_at, wake_at, mail, mail_at, format_)
        )
    stopped = {row[6] for row in batch.stops}
    statuses = {row[3]: row for row in batch.statuses if row[3] not in stopped}
    asked = {row[0] for row in batch.interrupts}
    answered = {row[0] for row in batch.interrupt_deletes}
    return [
        creates,
        # The writer's own id takes the place of the replica's.
        [(unit(row[0]), *row[:6], *row[7:]) for row in batch.journal],
        [tuple(row.values()) for row in rows.values()],
        messages,
        [(unit(row[6]), row[6], *row[:6]) for row in batch.stops],
        [(unit(row[3]), row[3], *row[:3]) for row in statuses.values()],
        [(unit(f), f, seq, at, verdict) for at, verdict, f, seq in batch.verdicts],
        [(unit(row[1]), *row) for row in batch.interrupts if row[0] not in answered],
        [(-1, row[0]) for row in batch.interrupt_deletes if row[0] not in asked],
        [(unit(row[1]), *row) for row in batch.outbox],
    ]


def encode(batch: Any) -> tuple[int, list[bytes], tuple[bytes, int] | None]:
    rows = touched(batch)
    kinds, columns = 0, []
    for bit, (group, group_rows) in enumerate(zip(GROUPS, groups(batch, rows), strict=True)):
        if group_rows:
            kinds |= 1 << bit
            values = list(zip(*group_rows, strict=True))
            columns += [array(kind, list(v)) for (_, kind), v in zip(group.columns, values, strict=True)]
    for row in rows.values():
        changes = row["messages"] or row["is_released"] or row["is_calmed"] or row["is_answered"]
        kinds |= DELETES if row["is_deleted"] else UPDATES if changes else 0
    newest = (batch.journal[-1][0], batch.journal[-1][1]) if batch.journal else None
    return kinds, columns, newest
