"""A client beside an engine in another process, and a client that is alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock import App, Client, Engine
from penstock.errors import Conflict, EngineUnavailable, Invalid, NotFound, WaitTimeout
from tests.flows.client_app import app
from tests.support.host import Host
from tests.support.waiting import eventually

StartHost = Callable[..., Host]


def start_engine(start_host: StartHost, database_url: str) -> Host:
    host = start_host(["-m", "tests.flows.client_app", database_url])
    host.wait_for_output("engine runs")
    return host


@pytest.fixture
def engine_process(start_host: StartHost, database_url: str) -> Host:
    """An engine of another process, which runs."""
    return start_engine(start_host, database_url)


@pytest.fixture
def client(engine_process: Host, database_url: str) -> Iterator[Client]:
    """A client without an app, beside the engine of another process."""
    with Client(None, database_url) as client:
        yield client


@pytest.fixture
def lonely(database_url: str) -> Iterator[Client]:
    """A client on a database whose engine has gone."""
    with Engine(app, database_url):
        pass
    with Client(None, database_url) as client:
        yield client


def test_a_flow_runs_in_the_engine_s_process(client: Client) -> None:
    outcome = client.run("double", {"n": 4}, timeout=20)
    assert (outcome.status, outcome.state) == ("completed", {"n": 8})
    assert client.poll(outcome.key) == outcome
    assert client.snapshot(outcome.key) == outcome


def test_many_flows_are_created_at_once_and_awaited_one_by_one(client: Client) -> None:
    keys = client.create_many("double", [{"n": n} for n in range(300)])
    assert [client.wait(key, timeout=20).state["n"] for key in keys] == [2 * n for n in range(300)]


def test_history_step_and_list_are_read_from_the_database(client: Client) -> None:
    key = client.run("double", {"n": 4}, timeout=20, tags={"of": "test"}).key
    (step,) = client.history(key)
    assert client.step(step.key).changes == {"n": 8}
    assert [flow.key for flow in client.list(tags={"of": "test"}).items] == [key]


def test_a_question_is_answered_through_the_database(client: Client) -> None:
    key = client.create("ask", {"n": 1})
    asked = client.wait(key, timeout=20)
    assert asked.status == "interrupted"
    assert asked.interrupts[0].payload == {"question": "go on?"}
    client.resume(key, "yes", interrupt_id=asked.interrupts[0].interrupt_id)
    assert client.wait(key, timeout=20).state == {"n": 2, "answer": "yes"}


def test_a_second_answer_is_refused(client: Client) -> None:
    key = client.create("ask", {"n": 1})
    client.wait(key, timeout=20)
    client.resume(key, "yes")
    with pytest.raises(Conflict):
        client.resume(key, "again")
    assert client.wait(key, timeout=20).status == "completed"


def test_a_flow_is_cancelled_through_the_database(client: Client) -> None:
    key = client.create("ask", {"n": 1})
    client.wait(key, timeout=20)
    client.cancel(key, "no longer wanted")
    outcome = client.wait(key, timeout=20)
    assert (outcome.status, outcome.cancel_reason) == ("cancelled", "no longer wanted")
    with pytest.raises(Conflict, match="is cancelled"):
        client.cancel(key)


def test_one_task_runs_as_a_flow(client: Client) -> None:
    assert client.run_task("double", {"n": 5}, timeout=20).state == {"n": 10}


def test_an_idempotency_key_names_one_flow_whoever_asks(database_url: str) -> None:
    with Engine(app, database_url) as engine, Client(None, database_url) as client:
        key = engine.create("double", {"n": 1}, idempotency_key="once")
        assert client.create("double", {"n": 1}, idempotency_key="once") == key
        assert client.run("double", {"n": 1}, idempotency_key="once", timeout=20).key == key
        with pytest.raises(Conflict, match="once"):
            client.create("double", {"n": 2}, idempotency_key="once")


def test_an_app_given_to_the_client_brings_graphs_that_no_engine_has(
    client: Client, database_url: str
) -> None:
    more = App("more")
    more.graph("twice").node("first", "double").node("second", "double").edge("first", "second")
    with Client(more, database_url) as wise:
        assert wise.run("twice", {"n": 1}, timeout=20).state == {"n": 4}
    assert client.run("twice", {"n": 2}, timeout=20).state == {"n": 8}, "it is published for all"


@pytest.mark.parametrize(
    ("workflow", "state", "options", "kind"),
    [
        ("double", [1], {}, Invalid),
        ("double", {"n": float("nan")}, {}, Invalid),
        ("double", {"n": "x" * (17 << 20)}, {}, Invalid),
        ("sums", {"total": "three"}, {}, Invalid),
        ("double", {}, {"priority": "high"}, Invalid),
        ("double", {}, {"prioriti": 1}, Invalid),
        (7, {}, {}, Invalid),
        ("nothing", {}, {}, NotFound),
    ],
)
def test_what_an_engine_refuses_a_client_refuses(
    database_url: str,
    workflow: str,
    state: dict[str, object],
    options: dict[str, object],
    kind: type[Exception],
) -> None:
    with Engine(app, database_url) as engine, Client(None, database_url) as client:
        refusals = []
        for facade in (engine, client):
            with pytest.raises(kind) as refusal:
                facade.create(workflow, state, **options)  # type: ignore[arg-type]  # wrong on purpose
            with pytest.raises(kind):
                facade.create_many(workflow, [{"n": 1}, state], **options)  # type: ignore[arg-type]
            refusals.append(str(refusal.value))
        assert client.list().items == ()
        if kind is Invalid:
            assert refusals[0] == refusals[1]


def test_a_database_that_no_engine_has_used_is_refused_and_not_made(
    database_url: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineUnavailable, match="no engine has ever used it"), Client(app, database_url):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(EngineUnavailable, match="No engine has ever used"), Client(app, f"sqlite:///{path}"):
        pass
    assert path.read_bytes() == b""


def test_a_graph_that_does_not_compile_opens_nothing(lonely: Client, database_url: str) -> None:
    bad = App("bad")
    bad.graph("loop").node("a", "double").reducer("n", "nonsense")
    with pytest.raises(Invalid), Client(bad, database_url):
        pass


def test_a_client_that_was_not_started_says_so(database_url: str) -> None:
    client = Client(None, database_url)
    with pytest.raises(EngineUnavailable, match="call start"):
        client.list()
    assert repr(client) == f"<Client of {database_url}: closed>"


def test_a_client_takes_no_lock(lonely: Client, database_url: str) -> None:
    key = lonely.create("double", {"n": 3})
    with Engine(app, database_url) as engine:
        assert engine.wait(key, timeout=20).state == {"n": 6}
        assert lonely.wait(key, timeout=20).state == {"n": 6}


def test_a_timeout_says_that_no_engine_is_alive(lonely: Client) -> None:
    with pytest.raises(WaitTimeout, match="no engine is alive") as refusal:
        lonely.run("double", {"n": 1}, timeout=0.02)
    assert refusal.value.flow_key is not None
    assert lonely.poll(refusal.value.flow_key, timeout=0.02).status == "running"


def test_a_timeout_beside_an_engine_does_not_complain_of_it(client: Client) -> None:
    key = client.create("ask", {"n": 1})
    client.wait(key, timeout=20)
    client.cancel(key)
    waiting = client.create("ask", {"n": 1}, priority=5)
    with pytest.raises(WaitTimeout) as refusal:
        client.wait(waiting, timeout=0)
    assert "engine" not in str(refusal.value)


def test_a_message_without_an_engine_stands_until_one_comes(
    client: Client, engine_process: Host, start_host: StartHost, database_url: str
) -> None:
    key = client.create("ask", {"n": 1})
    client.wait(key, timeout=20)
    engine_process.kill()
    with pytest.raises(WaitTimeout, match=r"message 1 stands and will be; no engine is alive") as refusal:
        client.resume(key, "late", timeout=0.05)
    assert refusal.value.flow_key == key
    start_engine(start_host, database_url)
    assert eventually(lambda: client.poll(key, timeout=1).state.get("answer"), what="the answer") == "late"


def test_shutdown_tells_those_who_wait(lonely: Client) -> None:
    key = lonely.create("double", {"n": 1})
    told: list[Exception] = []

    def wait() -> None:
        try:
            lonely.wait(key)
        except EngineUnavailable as refusal:
            told.append(refusal)

    thread = threading.Thread(target=wait)
    thread.start()
    context = lonely._ready
    eventually(context.waiters.stopped.keys, what="the wait")
    lonely.shutdown()
    thread.join(20)
    assert len(told) == 1
    lonely.shutdown()


def test_clients_on_many_threads_share_one_engine(client: Client, engine_process: Host) -> None:
    results: list[int] = []

    def work(number: int) -> None:
        results.append(client.run("double", {"n": number}, timeout=30).state["n"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert sorted(results) == [2 * number for number in range(20)]
    engine_process.process.send_signal(signal.SIGTERM)
    assert engine_process.wait() == 0
