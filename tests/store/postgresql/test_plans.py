"""What is asked again and again is answered from an index, in its order, however many flows sleep or wait."""

import re

import pytest

from penstock.store.dialects.postgresql import claims, mail
from penstock.store.dialects.postgresql.connections import run
from tests.store.fakes import (
    FakeBatch,
    created,
    event,
    fid,
    flow_row,
    live_row,
    merge,
    released,
    stopped,
    verdict,
)

pytestmark = pytest.mark.needs("postgresql")


@pytest.fixture
def explain(store, execute):
    """The plan of a statement that is planned once for all parameters, beside 20 000 flows of which it knows nothing."""
    execute(
        "INSERT INTO penstock_live SELECT gen_random_uuid(), NULL, 0, 0, 100, 'k' || i % 50, 1,"
        " CASE WHEN i % 2 = 0 THEN i END, CASE WHEN i % 2 = 1 THEN 9e15 + i END, 0, NULL, '', 1"
        " FROM generate_series(1, 20000) i"
    )

    def explainer(statement, arguments, begin="BEGIN"):
        with store._writer.transaction(begin) as driver:
            driver.execute(b"SET LOCAL plan_cache_mode = force_generic_plan")
            driver.execute(b"DEALLOCATE ALL")
            driver.execute(f"PREPARE asked AS {statement}".encode())
            plan = run(driver, f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) EXECUTE asked ({arguments})")
            text = "\n".join(row[0] for row in plan.fetchall())
            driver.execute(b"DEALLOCATE ALL")
        return text

    return explainer


def test_a_claim_walks_the_indexes_of_its_lanes(store, explain):
    plan = explain(claims._CLAIM, f"{store.replica_id}, 256, 100, '{{}}', 1", claims.IN_ORDER)
    lanes = plan.split("CTE mail")[1].split("CTE picked")[0]
    assert "penstock_live_mail" in lanes
    assert "penstock_live_ready" in lanes
    assert "Sort" not in lanes
    assert "Seq Scan" not in plan


def test_due_flows_are_found_by_their_index(explain):
    plan = explain(claims._PROMOTE, "1", claims.IN_ORDER)
    assert "penstock_live_wake" in plan


def test_a_look_reads_one_entry_of_each_index(store, explain):
    plan = explain(claims._LOOK, str(store.replica_id))
    assert "Seq Scan" not in plan
    assert max(map(int, re.findall(r"actual rows=(\d+)", plan))) == 1


def test_mail_is_found_by_its_index(store, explain):
    plan = explain(mail._READ, f"{store.replica_id}, '{{}}', '{{}}'")
    assert "Seq Scan" not in plan


def test_a_batch_reads_no_table_whole(store, explain):
    from penstock.store.dialects.postgresql.parameters import GROUPS
    from penstock.store.dialects.postgresql.statement import batch_statement

    me = store.replica_id
    batch = merge(
        FakeBatch(flows=[flow_row(fid(9))], live=[live_row(fid(9))]),
        event(fid(1), 1),
        stopped(fid(1), me),
        released(fid(2), me),
        verdict(fid(3), 1),
        created(fid(4)),
    )
    kinds, columns, _ = batch.arrays()
    types = [kind for bit, group in enumerate(GROUPS) if kinds >> bit & 1 for _, kind in group.columns]
    assert len(types) == len(columns)
    plan = explain(batch_statement(kinds), ", ".join([str(me), *(f"'{{}}'::{kind}[]" for kind in types)]))
    assert "Seq Scan" not in plan
