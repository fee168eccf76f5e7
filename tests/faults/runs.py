"""A database that goes through the hands of several hosts, most of which die."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from penstock import Engine
from tests.faults.app import EXPECTED_COUNT, EXPECTED_TRAIL, app
from tests.support.database import events, finished_steps, query
from tests.support.host import Host
from tests.support.ledger import Ledger
from tests.support.waiting import eventually

STEPS = EXPECTED_COUNT

StartHost = Callable[..., Host]


def wait_until_gone(host: Host) -> None:
    """Wait until the zygote and the workers of a killed host have noticed."""
    eventually(lambda: not host.members(), what="zygote and workers of the dead host to end", deadline=5)


class Run:
    """Hosts on one file, and what must hold between the death of one and the end of the next."""

    def __init__(self, start_host: StartHost, database: Path, ledger: Ledger) -> None:
        self._start_host = start_host
        self.database = database
        self.ledger = ledger
        # What the journal held at some kill, with the length of the ledger then.
        self.kills: list[tuple[set[str], int]] = []

    def start(self, number: int, *crash: str) -> Host:
        """Start a host that creates so many flows and brings all to rest, or crashes where it is told to."""
        url = f"sqlite:///{self.database}"
        return self._start_host(["-m", "tests.faults.host", url, str(self.ledger.path), str(number), *crash])

    def kill(self, host: Host) -> None:
        """Kill a host, see its workers go, and keep what was finished then."""
        host.kill()
        self.note_death(host)

    def note_death(self, host: Host) -> None:
        """See the workers of a dead host go, and keep what was finished then."""
        wait_until_gone(host)
        self.kills.append((finished_steps(self.database), len(self.ledger.entries())))

    def check(self, number: int) -> None:
        """Check the ledger, and that each step of so many flows has one end."""
        self.check_ledger()
        done = events(self.database, "done", "failed", workflow="counted")
        ends = Counter((flow, step) for flow, step, _ in done)
        assert set(ends.values()) == {1}
        assert len(ends) == number * STEPS

    def check_ledger(self) -> None:
        """Check that no step that the journal held at a kill was run after it."""
        entries = self.ledger.entries()
        for finished, noted in self.kills:
            again = {entry["step"] for entry in entries[noted:]}
            assert not finished & again, "steps that the journal held were run again"

    def check_outcomes(self, number: int) -> None:
        """Check that every flow has completed with each step's effect in it exactly once."""
        with Engine(app, f"sqlite:///{self.database}") as engine:
            assert check_counted(engine) == number
        of_counted = "penstock_live JOIN penstock_flows USING (flow_id) WHERE workflow = 'counted'"
        assert query(self.database, f"SELECT count(*) FROM {of_counted}") == [(0,)]


def check_counted(engine: Engine) -> int:
    """Check every flow of `counted`, and return how many there are."""
    flows = engine.list(workflow="counted", limit=1_000).items
    for flow in flows:
        outcome = engine.snapshot(flow.key)
        assert outcome.status == "completed"
        assert (outcome.state["count"], outcome.state["trail"]) == (EXPECTED_COUNT, EXPECTED_TRAIL)
    return len(flows)
