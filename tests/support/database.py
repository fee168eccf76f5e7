"""Facts of a SQLite file, read past the engine: what the journal holds, how many rows there are."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from penstock._core import flow_key

SHARD = 1


def query(path: Path, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run one statement on the file, on a connection of its own."""
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def finished_steps(path: Path) -> set[str]:
    """Keys of the steps whose end the journal holds."""
    rows = query(path, "SELECT flow_id, step FROM penstock_journal WHERE event IN ('done', 'failed')")
    return {f"{flow_key(SHARD, flow_id)}/{step}" for flow_id, step in rows}


def events(path: Path, *kinds: str, workflow: str | None = None) -> list[tuple[str, int, str]]:
    """Flow key, step number and kind of the journal's events; of the given kinds and workflow, or of all."""
    rows = query(
        path,
        "SELECT flow_id, step, event FROM penstock_journal JOIN penstock_flows USING (flow_id) "
        "WHERE workflow = coalesce(?, workflow) ORDER BY flow_id, ord",
        (workflow,),
    )
    return [(flow_key(SHARD, flow), step, event) for flow, step, event in rows if not kinds or event in kinds]


def row_counts(path: Path) -> dict[str, int]:
    """The number of rows of every table of Penstock's."""
    names = query(path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'penstock%'")
    return {name: query(path, f"SELECT count(*) FROM {name}")[0][0] for (name,) in sorted(names)}
