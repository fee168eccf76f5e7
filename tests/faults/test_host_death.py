"""The whole host killed with -9 under load, at many instants, and started again on the same file."""

from __future__ import annotations

import random

import pytest

from tests.faults.runs import STEPS, Run, wait_until_gone
from tests.support.waiting import eventually

FLOWS = 150


def test_a_host_killed_under_load_goes_on_where_the_journal_ends(run: Run) -> None:
    first = run.start(FLOWS)
    run.ledger.wait_for(FLOWS * STEPS // 2)
    run.kill(first)
    finished, _ = run.kills[0]
    assert 0 < len(finished) < FLOWS * STEPS, "it was killed half way"

    second = run.start(0)
    assert second.wait() == 0, second.output()
    run.check(FLOWS)
    run.check_outcomes(FLOWS)


@pytest.mark.parametrize("seed", range(2))
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
    run.check(FLOWS)
    run.check_outcomes(FLOWS)


def test_a_host_killed_while_it_starts_leaves_a_file_that_the_next_one_can_use(run: Run) -> None:
    """At whichever of these it dies, migration, registration and takeover are done or not begun."""
    for suffix in ("", "-wal", ".lock"):
        host = run.start(0)
        eventually(run.database.with_name(run.database.name + suffix).exists, what=f"the file {suffix}")
        host.kill()
        wait_until_gone(host)
    last = run.start(FLOWS)
    assert last.wait() == 0, last.output()
    run.check_outcomes(FLOWS)
