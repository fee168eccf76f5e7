"""The whole host killed with -9 under load, at many instants, and started again on the same file."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock import Engine
from tests.faults.app import EXPECTED_COUNT, EXPECTED_TRAIL, app
from tests.support.database import events, finished_steps, query
from tests.support.host import Host
from tests.support.ledger import Ledger
from tests.support.waiting import eventually

FLOWS = 200
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

    def start(self, number: int) -> Host:
        """Start a host that creates so many flows and finishes all."""
        url = f"sqlite:///{self.database}"
        return self._start_host(["-m", "tests.faults.host", url, str(self.ledger.path), str(number)])

    def kill(self, host: Host) -> None:
        """Kill a host, see its workers go, and keep what was finished then."""
        host.kill()
        wait_until_gone(host)
        self.kills.append((finished_steps(self.database), len(self.ledger.entries())))

    def check(self) -> None:
        """Check that nothing in the journal at a kill was run after it, and that each step has one end."""
        entries = self.ledger.entries()
        for finished, noted in self.kills:
            again = {entry["step"] for entry in entries[noted:]}
            assert not finished & again, "steps that the journal held were run again"
        ends = Counter((flow, step) for flow, step, _ in events(self.database, "done", "failed"))
        assert set(ends.values()) == {1}
        assert len(ends) == FLOWS * STEPS

    def check_outcomes(self) -> None:
        """Check that every flow has completed with each step's effect in it exactly once."""
        with Engine(app, f"sqlite:///{self.database}") as engine:
            flows = engine.list(limit=1_000).items
            assert Counter(flow.status for flow in flows) == {"completed": FLOWS}
            for flow in flows:
                state = engine.snapshot(flow.key).state
                assert (state["count"], state["trail"]) == (EXPECTED_COUNT, EXPECTED_TRAIL)
        assert query(self.database, "SELECT count(*) FROM penstock_live") == [(0,)]


@pytest.fixture
def run(start_host: StartHost, database: Path, ledger: Ledger) -> Run:
    return Run(start_host, database, ledger)


def test_a_host_killed_under_load_goes_on_where_the_journal_ends(run: Run) -> None:
    first = run.start(FLOWS)
    run.ledger.wait_for(FLOWS * STEPS // 2)
    run.kill(first)
    finished, _ = run.kills[0]
    assert 0 < len(finished) < FLOWS * STEPS, "it was killed half way"

    second = run.start(0)
    assert second.wait() == 0, second.output()
    run.check()
    run.check_outcomes()


@pytest.mark.parametrize("seed", range(3))
def test_hosts_killed_at_random_instants_one_after_another_lose_and_double_nothing(
    run: Run, seed: int
) -> None:
    """Before a commit, after one that was not acknowledged, between a claim and its load, at the takeover itself."""
    chance = random.Random(seed)
    host = run.start(FLOWS)
    host.wait_for_output("created")
    for _ in range(4):
        # In the ledger's lines, two a step: now during the start and the takeover, now far in.
        target = len(run.ledger.entries()) + chance.choice([1, 2, 5, 20, 100, 400])
        run.ledger.wait_for(min(target, 2 * FLOWS * STEPS))
        run.kill(host)
        host = run.start(0)
    assert host.wait() == 0, host.output()
    run.check()
    run.check_outcomes()


def test_a_host_killed_while_it_starts_leaves_a_file_that_the_next_one_can_use(run: Run) -> None:
    """At whichever of these it dies, migration, registration and takeover are done or not begun."""
    for suffix in ("", "-wal", ".lock"):
        host = run.start(0)
        eventually(run.database.with_name(run.database.name + suffix).exists, what=f"the file {suffix}")
        host.kill()
        wait_until_gone(host)
    last = run.start(FLOWS)
    assert last.wait() == 0, last.output()
    run.check_outcomes()
