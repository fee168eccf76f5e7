"""The group commit: the statement is sent, its answer read, and what an outage left in doubt is cleared up."""

from collections import defaultdict
from typing import Any

import psycopg

from penstock.store.batch import Batch, Committed, Fenced
from penstock.store.dialects.postgresql import evidence
from penstock.store.dialects.postgresql.connections import Driver, Line, run
from penstock.store.dialects.postgresql.failures import is_sudden_loss, named
from penstock.store.dialects.postgresql.location import Location
from penstock.store.dialects.postgresql.patience import Patience
from penstock.store.dialects.postgresql.statement import batch_statement
from penstock.store.failures import LostCommits, Outage, RefusedRow

PATIENCE_AFTER = 10
"""A unit that was put off this often is waited for."""
_LOSSES = 3
"""A batch during which the connection was lost this often is taken for the cause."""

_IS_THERE = "SELECT 1 FROM penstock_journal WHERE flow_id = $1::uuid AND ord = $2::int8"

Refusals = dict[int, dict[bytes, str | None]]
"""Of each unit that was left out, the flows whose rows it touches, with what was wrong with each."""


class Commits:
    """Commits batches on a line of its own. The writer's thread.

    Attributes:
        before_answer: Called between the statement and its answer, for tests that lose it.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._line = Line(location)
        self._patience = Patience(location)
        # Flow and ord of the last event that was acknowledged, and on which opening of the line.
        self._newest: tuple[bytes, int] | None = None
        self._checked_opening = 0
        self._is_lost = False
        # The batch whose outcome an outage left in doubt, and how often its connection was lost.
        self._doubtful: Batch | None = None
        self._losses = 0
        # How often in a row the row of a flow was found locked.
        self._put_off: dict[bytes, int] = {}

    def close(self) -> None:
        """Close the connections."""
        self._patience.close()
        self._line.drop()

    def forget(self) -> None:
        """Begin anew as another replica: nothing was acknowledged, nothing is in doubt."""
        self._newest = None
        self._is_lost = False
        self._doubtful = None
        self._losses = 0
        self._put_off = {}

    def commit(self, batch: Batch, replica_id: int) -> Committed | Fenced:
        """Write *batch*; see `Store.commit`."""
        kinds, columns, newest = _arrays(batch)
        if not columns:
            return Committed()
        self._check_newest()
        try:
            answer = self._attempt(batch, kinds, columns, replica_id)
        except psycopg.errors.UniqueViolation as conflict:
            answer = self._committed_before(batch, replica_id, conflict)
        self._doubtful, self._losses = None, 0
        if isinstance(answer, Committed) and newest is not None and not answer.refused:
            self._newest = newest
        return answer

    def _attempt(self, batch: Batch, kinds: int, columns: list[bytes], replica_id: int) -> Committed | Fenced:
        try:
            with self._line.lend() as driver:
                rows = run(driver, batch_statement(kinds), [replica_id, *columns]).fetchall()
        except RefusedRow as refusal:
            if isinstance(refusal.__cause__, psycopg.errors.UniqueViolation):
                raise refusal.__cause__ from None
            raise
        except Outage as outage:
            self._note_loss(batch, outage)
            raise
        if not rows[0][0]:
            return Fenced(replica_id)
        return self._answer(batch, rows, replica_id) if len(rows[0]) > 1 else Committed()

    def _answer(self, batch: Batch, rows: list[tuple[Any, ...]], replica_id: int) -> Committed | Fenced:
        refusals: Refusals = defaultdict(dict)
        for _, unit, flow_id, why in rows:
            if unit is not None:
                refusals[unit][flow_id] = why
        if not refusals:
            self._put_off = {}
            return Committed()
        self._drop_committed(batch, refusals, replica_id)
        self._wait_for_locked(batch, refusals, replica_id)
        foreign = {
            flow_id
            for flows in refusals.values()
            for flow_id, why in flows.items()
            if why in ("foreign", "gone")
        }
        return Committed(tuple(sorted(refusals)), tuple(sorted(foreign)))

    # --- a row that somebody else holds ---

    def _wait_for_locked(self, batch: Batch, refusals: Refusals, replica_id: int) -> None:
        locked = {
            unit: frozenset(flows)
            for unit, flows in refusals.items()
            if set(flows.values()) <= {"locked", None}
        }
        self._put_off = {
            flow_id: self._put_off.get(flow_id, 0) + 1
            for unit in locked
            for flow_id, why in refusals[unit].items()
            if why == "locked"
        }
        for unit, flow_ids in locked.items():
            if max(self._put_off.get(flow_id, 0) for flow_id in flow_ids) >= PATIENCE_AFTER:
                driver = self._patience.take(flow_ids)
                if driver is None:
                    self._patience.ask(flow_ids)
                elif self._write_alone(driver, batch, unit, replica_id):
                    del refusals[unit]

    def _write_alone(self, driver: Driver, batch: Batch, unit: int, replica_id: int) -> bool:
        """Write one unit where its rows are held; whether it stands now."""
        kinds, columns, _ = _arrays(_only(batch, unit))
        try:
            rows = run(driver, batch_statement(kinds), [replica_id, *columns]).fetchall()
            is_written = bool(rows[0][0]) and rows[0][1] is None
            driver.execute(b"COMMIT" if is_written else b"ROLLBACK")
            return is_written
        except psycopg.Error:
            # In doubt, or refused for what it holds: the next batch tells.
            return False
        finally:
            self._patience.done()

    # --- an acknowledgement that was lost ---

    def _note_loss(self, batch: Batch, outage: Outage) -> None:
        is_same = self._doubtful is batch
        self._doubtful = batch
        cause = outage.__cause__
        if cause is None or not is_sudden_loss(cause):
            return
        self._losses = self._losses + 1 if is_same else 1
        if self._losses >= _LOSSES:
            self._doubtful, self._losses = None, 0
            raise RefusedRow(
                f"The connection was lost {_LOSSES} times in a row while this was written: {cause}."
            ) from cause

    def _drop_committed(self, batch: Batch, refusals: Refusals, replica_id: int) -> None:
        """Strike units whose guards fail only because they were committed before."""
        for unit in list(refusals):
            if not set(refusals[unit].values()) & {"foreign", "gone"}:
                continue
            part = _only(batch, unit)
            with self._line.lend() as driver:
                standing = evidence.find(driver, part, replica_id)
            is_silent = standing is evidence.Standing.SILENT
            if standing is evidence.Standing.WHOLE or (is_silent and self._doubtful is batch):
                del refusals[unit]

    def _committed_before(self, batch: Batch, replica_id: int, conflict: psycopg.Error) -> Committed:
        """Tell what of *batch* an earlier attempt committed; a row that conflicts and is not ours is refused."""
        refused, found = [], False
        with self._line.lend() as driver:
            for unit in range(batch.units):
                part = _only(batch, unit)
                standing = evidence.find(driver, part, replica_id)
                if standing is evidence.Standing.MIXED:
                    raise named(conflict, self._location.shown) from conflict
                found |= standing is evidence.Standing.WHOLE
                if standing is evidence.Standing.SILENT and evidence.is_done(driver, part):
                    continue
                if standing is not evidence.Standing.WHOLE and part.guards():
                    refused.append(unit)
                elif standing is evidence.Standing.NONE:
                    raise named(conflict, self._location.shown) from conflict
        if not found:
            raise named(conflict, self._location.shown) from conflict
        return Committed(tuple(refused))

    # --- commits that a failover lost ---

    def _check_newest(self) -> None:
        """After a reconnect, look for the newest event that was acknowledged."""
        if self._is_lost:
            raise LostCommits(
                f"The database {self._location.shown} has lost commits that it had acknowledged."
            )
        self._line.open()
        if self._checked_opening == self._line.openings:
            return
        if self._newest is not None:
            with self._line.lend() as driver:
                self._is_lost = run(driver, _IS_THERE, self._newest).fetchone() is None
            if self._is_lost:
                self._check_newest()
        self._checked_opening = self._line.openings


def _arrays(batch: Batch) -> tuple[int, list[bytes], tuple[bytes, int] | None]:
    try:
        return batch.arrays()
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusedRow(f"A row cannot be encoded: {error}.") from error


def _only(batch: Batch, unit: int) -> Batch:
    return batch.without({other for other in range(batch.units) if other != unit})
