"""A process that is killed in the middle of a commit leaves all of a batch or nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.store import open_store
from tests.store.fakes import fid

ROOT = Path(__file__).resolve().parents[2]
ROWS = 200

WRITE = f"""
import os, signal, sys
from penstock.store import open_store
from tests.store.fakes import FakeBatch, event_row, fid

store = open_store(sys.argv[1])
store.register()
if sys.argv[2] != "whenever":
    # Dies between two rows of the third batch.
    with store._writing() as conn:
        driver = conn.connection.driver_connection
        driver.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
        conn.exec_driver_sql(
            "CREATE TEMP TRIGGER t AFTER INSERT ON main.penstock_journal WHEN new.flow_id = x'" + fid(3).hex() + "'"
            " AND new.ord = " + sys.argv[2] + " BEGIN SELECT die(); END"
        )
number = 0
while True:
    number += 1
    store.commit(FakeBatch(journal=[event_row(fid(number), ord_) for ord_ in range(1, {ROWS + 1})]))
    print(number, flush=True)
"""


def killed_writer(database, when):
    """Run the writer until it is dead, and return the last batch it was told stands."""
    writer = subprocess.Popen([sys.executable, "-c", WRITE, database.url, when], stdout=subprocess.PIPE)
    acknowledged = 0
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged == 20:
            writer.kill()
    writer.wait()
    writer.stdout.close()
    return acknowledged


def counts(database):
    open_store(database.url).close()
    return dict(database.rows("SELECT flow_id, count(*) FROM penstock_journal GROUP BY flow_id"))


@pytest.mark.needs("sqlite")
@pytest.mark.parametrize("when", ["1", "100", "200"])
def test_a_kill_between_two_rows_of_a_commit_leaves_none_of_it(database, when):
    assert killed_writer(database, when) == 2
    assert counts(database) == {fid(1): ROWS, fid(2): ROWS}


def test_a_kill_in_mid_commit_leaves_all_or_nothing(database):
    acknowledged = killed_writer(database, "whenever")
    found = counts(database)
    assert set(found.values()) == {ROWS}
    assert all(fid(number) in found for number in range(1, acknowledged + 1))
