"""Engines that share a PostgreSQL: killed, stopped for longer than their lease, and with the server crashing below them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from penstock import Client
from tests.faults.app import app
from tests.faults.replica_host import LEASE
from tests.faults.replicas import STEPS, Replicas, StartHost
from tests.faults.runs import wait_until_gone
from tests.support.databases import Databases
from tests.support.ledger import Ledger
from tests.support.postgres_server import PrivateServer
from tests.support.waiting import eventually

FLOWS = 120
PAUSE = 0.005


@pytest.fixture
def replicas(start_host: StartHost, databases: Databases, ledger: Ledger) -> Replicas:
    return Replicas(start_host, databases.postgresql(), ledger)


@pytest.fixture
def open_client(replicas: Replicas) -> Iterator[Callable[[], Client]]:
    """A client, opened once an engine has made the schema."""
    opened: list[Client] = []

    def opener() -> Client:
        client = Client(app, replicas.database.url)
        client.start()
        opened.append(client)
        return client

    yield opener
    for client in opened:
        client.shutdown()


@pytest.fixture
def server(databases: Databases) -> PrivateServer:
    """A server that may be crashed."""
    server = databases.server()
    if not isinstance(server, PrivateServer):
        pytest.skip("somebody else's server is not crashed")
    return server


def test_engines_share_a_load_and_the_living_take_over_from_a_killed_one(
    replicas: Replicas, open_client: Callable[[], Client], record_property: Callable[[str, object], None]
) -> None:
    first, second = replicas.start(), replicas.start()
    client = open_client()
    # Judged dead by one who has itself held a lease for a whole lease time.
    time.sleep(LEASE)
    replicas.create(client, FLOWS, PAUSE)
    replicas.share([first, second], FLOWS * STEPS // 4)
    dead = replicas.replica_of(first)
    first.kill()
    killed_at = time.monotonic()
    wait_until_gone(first)
    finished, noted = replicas.finished_steps(), len(replicas.ledger.entries())
    assert replicas.owned(dead), "it was killed with flows in hand"
    takeover = replicas.takeover_s(dead, killed_at)
    record_property("takeover_s", takeover)
    print(f"takeover after {takeover:.2f} s")
    assert takeover < LEASE + 2
    replicas.check(client)
    replicas.check_not_run_again(finished, noted)


def test_a_stopped_engine_comes_back_as_a_stranger_and_works_on(
    replicas: Replicas, open_client: Callable[[], Client]
) -> None:
    stopped, other = replicas.start(), replicas.start()
    client = open_client()
    time.sleep(LEASE)
    replicas.create(client, FLOWS, PAUSE)
    replicas.share([stopped, other], FLOWS * STEPS // 4)
    before = replicas.replica_of(stopped)
    os.kill(stopped.pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    assert replicas.owned(before), "it was stopped with flows in hand"
    takeover = replicas.takeover_s(before, stopped_at)
    print(f"takeover after {takeover:.2f} s")
    assert takeover < LEASE + 2
    written = replicas.events_by(before)
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.wait_for_output("goes on as replica")
    replicas.check(client)
    assert replicas.events_by(before) == written, "a late write of the dead replica was taken"

    os.kill(other.pid, signal.SIGTERM)
    assert other.wait() == 0, other.output()
    lines = replicas.lines_of(stopped)
    replicas.create(client, 8)
    replicas.check(client)
    assert replicas.lines_of(stopped) == lines + 8 * STEPS * 2
    assert replicas.events_by(replicas.replica_of(stopped)) >= 8 * STEPS


@pytest.mark.parametrize("engines", [1, 2])
def test_a_crash_of_the_server_under_load_is_ridden_out(
    replicas: Replicas, open_client: Callable[[], Client], server: PrivateServer, engines: int
) -> None:
    hosts = [replicas.start() for _ in range(engines)]
    client = open_client()
    replicas.create(client, FLOWS, PAUSE)
    for part in (1, 2):
        replicas.ledger.wait_for(FLOWS * STEPS * 2 * part // 4)
        server.restart(signal.SIGQUIT)
    replicas.check(client)
    assert [host.process.poll() for host in hosts] == [None] * engines
    for host in hosts:
        assert "goes on as replica" not in host.output()
        os.kill(host.pid, signal.SIGTERM)
        assert host.wait() == 0, host.output()
    # Nobody died, so what was finished was kept: the steps ran once.
    runs = replicas.ledger.counts("step", "event")
    assert set(runs.values()) == {1}


def test_a_named_engine_takes_its_own_flows_back_at_once(
    replicas: Replicas, open_client: Callable[[], Client]
) -> None:
    first = replicas.start("alpha")
    client = open_client()
    replicas.create(client, 16, 0.05)
    replicas.ledger.wait_for(16)
    dead = replicas.replica_of(first)
    first.kill()
    killed_at = time.monotonic()
    wait_until_gone(first)
    finished, noted = replicas.finished_steps(), len(replicas.ledger.entries())
    assert replicas.owned(dead)
    second = replicas.start("alpha")
    assert not replicas.owned(dead), "they were released before it ran"
    eventually(lambda: replicas.lines_of(second) > 0, what="a step of the new engine")
    took = time.monotonic() - killed_at
    print(f"took its flows back after {took:.2f} s")
    replicas.check(client)
    replicas.check_not_run_again(finished, noted)
