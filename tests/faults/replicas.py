"""Several hosts on one PostgreSQL database, a client that gives them work, and what must hold of it in the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from penstock import Client
from penstock._core import flow_key
from tests.faults.app import EXPECTED_COUNT, EXPECTED_TRAIL, PARTS
from tests.support.database import SHARD
from tests.support.databases import Database
from tests.support.host import Host
from tests.support.ledger import Ledger
from tests.support.waiting import eventually

STEPS = EXPECTED_COUNT

StartHost = Callable[..., Host]


class Replicas:
    """Hosts that share a database; flows come from a client, which owns none."""

    def __init__(self, start_host: StartHost, database: Database, ledger: Ledger) -> None:
        self._start_host = start_host
        self.database = database
        self.ledger = ledger
        self.keys: list[str] = []

    def start(self, name: str = "") -> Host:
        """Start a host and wait until its engine runs."""
        host = self._start_host(["-m", "tests.faults.replica_host", self.database.url, name])
        host.wait_for_output("engine runs")
        return host

    def create(self, client: Client, number: int, pause: float = 0.0) -> None:
        """Create so many flows of `counted`."""
        state = {"ledger": str(self.ledger.path), "parts": list(range(PARTS)), "pause": pause}
        self.keys += client.create_many("counted", [state] * number)

    # --- what the database says ---

    def replica_of(self, host: Host) -> int:
        """The newest replica that a host has registered."""
        ((replica_id,),) = self.database.rows(
            "SELECT max(replica_id) FROM penstock_replicas WHERE pid = ?", host.pid
        )
        return int(replica_id)

    def owned(self, replica_id: int) -> set[str]:
        """The flows that a replica owns."""
        rows = self.database.rows("SELECT flow_id FROM penstock_live WHERE owner = ?", replica_id)
        return {flow_key(SHARD, flow_id) for (flow_id,) in rows}

    def finished_steps(self) -> set[str]:
        """Keys of the steps whose end the journal holds."""
        rows = self.database.rows(
            "SELECT flow_id, step FROM penstock_journal WHERE event IN ('done', 'failed')"
        )
        return {f"{flow_key(SHARD, flow_id)}/{step}" for flow_id, step in rows}

    def events_by(self, replica_id: int) -> int:
        """How many events a replica has written."""
        ((number,),) = self.database.rows(
            "SELECT count(*) FROM penstock_journal WHERE replica = ?", replica_id
        )
        return int(number)

    # --- what the ledger says ---

    def lines_of(self, host: Host) -> int:
        """How many lines the tasks of a host have written."""
        return self.ledger.counts("host")[host.mark,]

    def share(self, hosts: list[Host], lines: int) -> None:
        """Wait until each of these hosts has run some steps."""
        for host in hosts:
            host.wait_for(lambda host=host: self.lines_of(host) >= lines, what=f"{lines} lines of {host.pid}")  # type: ignore[misc]

    # --- what must hold in the end ---

    def check(self, client: Client, deadline: float = 60.0) -> None:
        """Wait for all flows; each step of each has one end and one effect, and no ord is missing."""
        end = time.monotonic() + deadline
        for key in self.keys:
            outcome = client.wait(key, timeout=max(end - time.monotonic(), 0.1))
            assert (outcome.status, outcome.error) == ("completed", None)
            assert (outcome.state["count"], outcome.state["trail"]) == (EXPECTED_COUNT, EXPECTED_TRAIL)
        rows = self.database.rows(
            "SELECT flow_id, ord, step, event FROM penstock_journal ORDER BY flow_id, ord"
        )
        ends = Counter((flow, step) for flow, _, step, event in rows if event in ("done", "failed"))
        assert set(ends.values()) == {1}, "a step ended twice"
        assert len(ends) == len(self.keys) * STEPS
        lengths = Counter(flow for flow, _, _, _ in rows)
        numbers = Counter({flow: ord_ for flow, ord_, _, _ in rows})
        assert lengths == numbers, "an ord is missing"
        assert self.database.rows("SELECT count(*) FROM penstock_live") == [(0,)]

    def check_not_run_again(self, finished: set[str], noted: int) -> None:
        """Check that no step that had ended when the ledger was so long was run after it."""
        again = {entry["step"] for entry in self.ledger.entries()[noted:] if entry["event"] == "start"}
        assert not finished & again, "steps that the journal held were run again"

    def takeover_s(self, replica_id: int, since: float) -> float:
        """Wait until a dead replica owns nothing any more; seconds since then."""
        eventually(lambda: not self.owned(replica_id), what="the takeover", deadline=30)
        return time.monotonic() - since
