"""Fills a database with flows, straight into the tables: a million in less than a minute."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.tables import flows, journal

#: An hour of flows at a time of its own; the newest flow is made at the end.
STEP_MS = 20
STATUSES = ("completed",) * 90 + ("failed",) * 6 + ("cancelled",) * 2 + ("running", "interrupted")
WORKFLOWS = ("orders",) * 6 + ("mails",) * 3 + ("rare",)
_CHUNK = 5_000


def flow_id_at(at_ms: int, number: int) -> bytes:
    """An id in the form that the core makes, drawn from a number."""
    return at_ms.to_bytes(6, "big") + number.to_bytes(10, "big")


def rows(number: int, end_ms: int, lasting: int = 50) -> Iterator[dict[str, Any]]:
    """Rows of `flows`, oldest first: mostly short, one in *lasting* for hours; each hundredth under a fairness key."""
    draw = random.Random(7)
    start = end_ms - number * STEP_MS
    for n in range(number):
        created = start + n * STEP_MS
        status = draw.choice(STATUSES)
        # What is rare is old, so that a walk from the newest would be long.
        workflow = "old" if n < number // 100 else draw.choice(WORKFLOWS)
        lasted = draw.randrange(end_ms - created) if n % lasting == 0 else draw.randrange(5_000)
        is_open = status in ("running", "interrupted")
        flow_id = flow_id_at(created, n)
        yield {
            "flow_id": flow_id,
            "root_id": flow_id,
            "workflow": workflow,
            "graph_id": bytes(32),
            "status": status,
            "priority": 100,
            "fairness_key": "ada" if n % 100 == 0 else "",
            "fairness_weight": 1.0,
            "thread_id": flow_id,
            "turn": 1,
            "tags": f'{{"customer":"{n % 1000}"}}',
            "input": "{}",
            "output": None if is_open else '{"total":7}',
            "error": '{"code":"timeout","message":"late"}' if status == "failed" else None,
            "delete_on_completion": False,
            "position": "[]",
            "created_at": created,
            "updated_at": min(created + lasted, end_ms),
            "stopped_at": None if is_open else min(created + lasted, end_ms),
        }


def fill(connection: Connection, number: int, end_ms: int, lasting: int = 50) -> None:
    """Insert so many flows with one event each, and have the database count them."""
    made = rows(number, end_ms, lasting)
    if connection.dialect.name == "postgresql":
        _copy(connection, made)
        return
    while chunk := [row for _, row in zip(range(_CHUNK), made, strict=False)]:
        connection.execute(sa.insert(flows), chunk)
        connection.execute(sa.insert(journal), list(map(_event, chunk)))
    connection.execute(sa.text("ANALYZE"))


def _copy(connection: Connection, made: Iterator[dict[str, Any]]) -> None:
    """PostgreSQL's own way to take many rows, table by table."""
    driver: Any = connection.connection.driver_connection
    kept = list(made)
    for table, found in ((flows, kept), (journal, [_event(row) for row in kept])):
        names = list(found[0])
        statement = f"COPY {table.name} ({', '.join(names)}) FROM STDIN"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in found:
                copy.write_row([_as_uuid(row[name]) for name in names])
    connection.execute(sa.text("ANALYZE"))


def _as_uuid(value: Any) -> Any:
    """An id is a `uuid` there."""
    return value.hex() if isinstance(value, bytes) and len(value) == 16 else value


def _event(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "flow_id": row["flow_id"],
        "ord": 1,
        "step": 1,
        "node": "pay",
        "event": "done",
        "attempt": 0,
        "replica": 1,
        "at": row["created_at"],
        "body": "{}",
    }


def plan_of(connection: Connection, statement: str, parameters: Sequence[Any]) -> str:
    """What the database says it would do."""
    words = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    found = connection.exec_driver_sql(words + statement, parameters)
    return "\n".join(str(row[-1]) for row in found)
