"""One engine per SQLite file, and what the next one finds."""

import os
import subprocess
import sys

import pytest

from penstock.errors import EngineUnavailable
from penstock.store import open_store
from tests.store.fakes import created, fid, merge

HOLD = """
import sys
from penstock.store import open_store
store = open_store(sys.argv[1])
store.register()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.needs("one-engine")
def test_a_second_engine_is_told_who_holds_the_database(store, path):
    other = open_store(f"sqlite:///{path}")
    with pytest.raises(EngineUnavailable, match=rf"process {os.getpid()}\)"):
        other.register()
    other.close()


@pytest.mark.needs("one-engine")
def test_a_link_to_the_file_leads_to_the_same_lock(store, path, tmp_path):
    (tmp_path / "link.db").symlink_to(path)
    other = open_store(f"sqlite:///{tmp_path}/link.db")
    with pytest.raises(EngineUnavailable):
        other.register()
    other.close()


def test_an_engine_that_left_or_closed_holds_nothing(path):
    for end in ("leave", "close"):
        store = open_store(f"sqlite:///{path}")
        store.register()
        getattr(store, end)()
        other = open_store(f"sqlite:///{path}")
        other.register()
        other.close()
        store.close()


def test_a_killed_engine_holds_nothing_though_its_child_lives(path):
    # The child inherits what is not close-on-exec.
    code = HOLD.replace(
        'print("held"', "import subprocess; subprocess.Popen(['sleep', '5'], close_fds=False); print('held'"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, f"sqlite:///{path}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    store = open_store(f"sqlite:///{path}")
    with pytest.raises(EngineUnavailable, match=f"process {holder.pid}"):
        store.register()
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    store.register()
    store.close()


@pytest.mark.needs("one-engine")
def test_what_was_owned_at_the_start_is_taken_over(store, path, clock, rows):
    owner = store.replica_id
    batch = merge(
        created(fid(1), owner, ready_at=clock.ms - 50),
        created(fid(2), owner, wake_at=clock.ms + 9_000),
        created(fid(3), None, ready_at=None, wake_at=clock.ms + 9_000),
    )
    store.commit(batch)
    store.close()

    clock.ms += 1_000
    successor = open_store(f"sqlite:///{path}", clock, clock)
    replica_id = successor.register(name="second", capacity=7)
    assert replica_id > owner
    assert rows("SELECT owner, claims, crashes, ready_at FROM penstock_live ORDER BY flow_id") == [
        (None, 1, 1, clock.ms - 1_050),
        (None, 1, 1, clock.ms),
        (None, 0, 0, None),
    ]
    assert rows("SELECT replica_id, name, pid, capacity FROM penstock_replicas") == [
        (replica_id, "second", os.getpid(), 7)
    ]
    assert rows("SELECT replica_id, lease_until FROM penstock_leases") == [(replica_id, clock.ms + 15_000)]
    successor.close()


def test_leaving_releases_everything_and_suspects_nobody(store, clock, rows):
    owner = store.replica_id
    store.commit(merge(created(fid(1), owner), created(fid(2), owner)))
    assert store.leave() == 2
    assert rows("SELECT DISTINCT owner, crashes, ready_at FROM penstock_live") == [(None, 0, clock.ms)]
    assert rows("SELECT count(*) FROM penstock_replicas") == [(0,)]


def test_leaving_twice_or_after_the_end_does_nothing(store):
    store.leave()
    assert store.leave() == 0
    store.register()
    store.close()
    assert store.leave() == 0
    with pytest.raises(EngineUnavailable, match="was closed"):
        store.look()


def test_a_lease_is_renewed_until_the_replica_is_declared_dead(store, clock, rows, execute):
    clock.ms += 5_000
    assert store.renew_lease(30_000)
    assert rows("SELECT lease_until FROM penstock_leases") == [(clock.ms + 30_000,)]
    execute("UPDATE penstock_replicas SET dead_at = 1")
    assert not store.renew_lease(30_000)


def test_a_replica_id_is_never_used_again(store):
    first = store.replica_id
    store.leave()
    assert store.register() == first + 1
