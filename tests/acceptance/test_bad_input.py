"""Bad input: a clear error with a stable code, and nothing left behind."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Engine, Flow, Graph
from penstock.errors import Conflict, EngineUnavailable, Invalid, NotFound, PenstockError
from tests.support.database import row_counts
from tests.support.host import Host
from tests.support.waiting import eventually

app = App("bad_input")


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt("well?")}


app.graph("double").chain(double).reducer("total", "add")
app.graph("ask").chain(ask)

StartHost = Callable[..., Host]

NOT_JSON: list[tuple[Any, str, str]] = [
    ([1], "invalid", "mapping"),
    ({1: 2}, "invalid", "field names are strings"),
    ({"n": float("nan")}, "invalid", "n"),
    ({"n": float("inf")}, "invalid", "n"),
    ({"n": {1, 2}}, "invalid", "set"),
    ({"n": [object()]}, "invalid", "object"),
    ({"n": datetime(2026, 1, 1)}, "invalid", "datetime"),  # noqa: DTZ001 - a value that is refused
    ({"total": "three"}, "invalid", "total"),
]

BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"priorty": 5}, "priority"),
    ({"priority": "high"}, "high"),
    ({"priority": 2**31}, "32 bits"),
    ({"fairness_weight": 0}, "above zero"),
    ({"fairness_key": "k" * 256}, "255"),
    ({"time_budget": -1}, "time_budget"),
    ({"time_budget": timedelta(0)}, "time_budget"),
    ({"time_budget": 0.0004}, "a millisecond or more"),
    ({"baggage": [1]}, "baggage"),
    ({"baggage": {"b": object()}}, "baggage"),
    ({"idempotency_key": ""}, "idempotency_key"),
    ({"tags": {"n": 1}}, "tag"),
    ({"tags": {"a\0": "b"}}, "NUL"),
    ({"hold": "yes"}, "hold"),
]

BAD_KEYS = [
    "",
    "x",
    "1-",
    "1-0",
    "nonsense/1",
    "1-" + "0" * 26,
    "2-" + "0" * 26,
    "1-" + "é" * 26,
    7,
    None,
    b"1-0",
]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with Engine(app, database_url) as engine:
        yield engine


def refusal(call: Callable[[], object], kind: type[PenstockError]) -> PenstockError:
    """The error that the call raises: of that class, with a code and a sentence that does not end in mid-air."""
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code
    assert len(caught.value.message) > 10
    assert str(caught.value) == caught.value.message
    return caught.value


def assert_no_threads() -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("penstock")]

    eventually(lambda: not threads(), what="the engine's threads to end", deadline=2)


def rows_left(database: Path) -> dict[str, int]:
    """The rows that a start left behind, but for the schema's own version."""
    counts = row_counts(database)
    assert counts.pop("penstock_version", 1) == 1
    return {table: number for table, number in counts.items() if number}


def children_of_this_process() -> list[int]:
    task = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return [int(pid) for pid in task.read_text().split()]


class TestCreate:
    """What create, create_many and run refuse leaves no row behind."""

    @pytest.fixture(autouse=True)
    def _nothing_is_left(self, engine: Engine, database: Path) -> Iterator[None]:
        before = row_counts(database)
        assert before["penstock_flows"] == before["penstock_live"] == before["penstock_journal"] == 0
        yield
        assert row_counts(database) == before
        assert engine.list().items == ()
        assert engine.run("double", {"n": 4}, timeout=10).state == {"n": 8}, "the engine goes on"

    def test_an_unknown_workflow_is_not_found(self, engine: Engine) -> None:
        for call in (
            lambda: engine.create("triple", {"n": 1}),
            lambda: engine.run("triple", {"n": 1}),
            lambda: engine.create("triple", {"n": 1}, idempotency_key="k"),
        ):
            error = refusal(call, NotFound)
            assert error.code == "not_found"
            assert "triple" in error.message
        refusal(lambda: engine.create_many("triple", [{}]), NotFound)
        assert refusal(lambda: engine.create(7), Invalid).code == "invalid"  # type: ignore[arg-type]  # refused

    @pytest.mark.parametrize(("state", "code", "word"), NOT_JSON)
    def test_a_state_that_cannot_be_stored_is_refused(
        self, engine: Engine, state: Any, code: str, word: str
    ) -> None:
        good = {"n": 1}
        for call in (
            lambda: engine.create("double", state),
            lambda: engine.run("double", state),
            lambda: engine.create_many("double", [good, state, good]),
            lambda: engine.create("double", state, idempotency_key="k"),
        ):
            error = refusal(call, Invalid)
            assert error.code == code
            assert word in error.message

    @pytest.mark.parametrize(("options", "word"), BAD_OPTIONS)
    def test_an_option_that_means_nothing_is_refused(
        self, engine: Engine, options: dict[str, Any], word: str
    ) -> None:
        for call in (
            lambda: engine.create("double", {"n": 1}, **options),
            lambda: engine.run("double", {"n": 1}, **options),
            lambda: engine.create_many("double", [{"n": 1}], **options),
        ):
            error = refusal(call, Invalid)
            assert error.code in ("invalid", "invalid_state")
            assert word in error.message

    def test_a_bad_timeout_is_refused_before_anything_is_created(self, engine: Engine) -> None:
        refusal(lambda: engine.run("double", {"n": 1}, timeout=-1), Invalid)
        refusal(lambda: engine.run("double", {"n": 1}, timeout="soon"), Invalid)  # type: ignore[arg-type]  # refused

    def test_a_task_that_does_not_exist_is_refused(self, engine: Engine) -> None:
        assert "triple" in refusal(lambda: engine.run_task("triple", {"n": 1}), Invalid).message
        refusal(lambda: engine.run_task(lambda n: None), Invalid)


class TestIdempotency:
    def test_the_same_key_with_another_input_is_a_conflict_and_stores_nothing(
        self, engine: Engine, database: Path
    ) -> None:
        key = engine.create("double", {"n": 1}, idempotency_key="once")
        engine.wait(key, timeout=10)
        before = row_counts(database)
        error = refusal(lambda: engine.create("double", {"n": 2}, idempotency_key="once"), Conflict)
        assert error.code == "conflict"
        assert engine.create("double", {"n": 1}, idempotency_key="once") == key
        assert row_counts(database) == before


class TestKeys:
    """A key that names nothing is not found, however it is wrong, by every operation."""

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_wrong_key_is_not_found(self, engine: Engine, database: Path, key: Any) -> None:
        before = row_counts(database)
        for call in (
            lambda: engine.wait(key, timeout=1),
            lambda: engine.poll(key),
            lambda: engine.snapshot(key),
            lambda: engine.history(key),
            lambda: engine.step(key),
            lambda: engine.resume(key, 1),
            lambda: engine.cancel(key),
            lambda: engine.list(thread=key),
        ):
            if key is None and call.__code__.co_names[-1] == "list":
                continue  # no filter
            assert refusal(call, NotFound).code == "not_found"
        assert row_counts(database) == before

    def test_a_well_formed_key_of_nothing_reads_like_any_other_wrong_one(self, engine: Engine) -> None:
        real = engine.create("double", {"n": 1})
        engine.wait(real, timeout=10)
        wrong = real[:-1] + ("0" if real[-1] != "0" else "2")
        refusal(lambda: engine.snapshot(wrong), NotFound)
        refusal(lambda: engine.step(f"{real}/99"), NotFound)
        refusal(lambda: engine.step(real), NotFound)

    def test_a_bad_answer_or_interrupt_id_changes_nothing(self, engine: Engine, database: Path) -> None:
        key = engine.create("ask")
        assert engine.wait(key, timeout=10).status == "interrupted"
        before = row_counts(database)
        refusal(lambda: engine.resume(key, object()), Invalid)
        refusal(lambda: engine.resume(key, 1, interrupt_id="x"), Invalid)
        refusal(lambda: engine.cancel(key, "a\0b"), Invalid)
        assert row_counts(database) == before
        with pytest.raises(Conflict):
            engine.resume(key, 1, interrupt_id="0" * 32)
        engine.resume(key, {"yes": True})
        assert engine.wait(key, timeout=10).state == {"answer": {"yes": True}}

    def test_a_finished_flow_takes_no_message(self, engine: Engine, database: Path) -> None:
        key = engine.run("double", {"n": 1}, timeout=10).key
        before = row_counts(database)
        assert "completed" in refusal(lambda: engine.resume(key, 1), Conflict).message
        refusal(lambda: engine.cancel(key), Conflict)
        assert row_counts(database) == before


class TestGraphs:
    """An engine does not start on a graph that cannot run."""

    def test_an_invalid_graph_is_refused_at_the_start(self, database: Path) -> None:
        broken = App("broken")
        broken.task(double)
        broken.graph("fine").chain(double)
        broken.graph("broken").node("a", double).node("b", double).node("join", double).fan_in("join").chain(
            "a", "b", "join"
        )
        error = refusal(Engine(broken, f"sqlite:///{database}").start, Invalid)
        assert error.code == "invalid"
        assert "join" in error.message
        assert_no_threads()
        assert rows_left(database) == {}
        # The file is free again.
        with Engine(app, f"sqlite:///{database}") as engine:
            assert engine.run("double", {"n": 1}, timeout=10).status == "completed"

    def test_a_graph_with_a_task_that_nobody_has_is_refused_at_the_start(self, database: Path) -> None:
        lacking = App("lacking")
        lacking.graph("lacking").chain("nowhere")
        error = refusal(Engine(lacking, f"sqlite:///{database}").start, Invalid)
        assert "nowhere" in error.message
        assert "lacking" in error.message
        assert_no_threads()
        assert rows_left(database) == {}

    def test_a_loader_that_gives_an_invalid_graph_stores_nothing(self, database: Path) -> None:
        class Loader:
            def load(self, workflow: str, baggage: Any) -> Graph | None:
                return Graph(workflow).switch("a", {"n >": "b"})

        with Engine(app, f"sqlite:///{database}", loader=Loader()) as engine:
            before = row_counts(database)
            assert refusal(lambda: engine.create("odd"), Invalid).code == "invalid"
            assert row_counts(database) == before


class TestApps:
    """An app that workers cannot import is refused before any database is touched."""

    @pytest.mark.parametrize(
        ("address", "word"),
        [
            ("no.such.module:app", "no.such"),
            ("tests.acceptance.test_bad_input:missing", "missing"),
            ("tests.acceptance.test_bad_input:NOT_JSON", "not an App"),
            ("tests.acceptance.test_bad_input", "module:attribute"),
        ],
    )
    def test_a_missing_app_is_refused(self, database: Path, address: str, word: str) -> None:
        error = refusal(lambda: Engine(address, f"sqlite:///{database}", workers=1), Invalid)
        assert error.code == "invalid"
        assert word in error.message
        assert not database.exists()

    def test_an_app_made_in_a_function_needs_workers_0(self, database: Path) -> None:
        local = App("local")
        assert (
            "workers=0" in refusal(lambda: Engine(local, f"sqlite:///{database}", workers=1), Invalid).message
        )
        refusal(lambda: Engine(None, f"sqlite:///{database}"), Invalid)
        assert not database.exists()

    def test_an_app_that_fails_to_import_in_the_workers_leaves_nothing_running(self, database: Path) -> None:
        engine = Engine("tests.acceptance.fails_in_workers:app", f"sqlite:///{database}", workers=1)
        error = refusal(engine.start, EngineUnavailable)
        assert error.code == "unavailable"
        assert "only here" in error.message
        assert_no_threads()
        eventually(lambda: children_of_this_process() == [], what="the zygote to be gone")
        with Engine(app, f"sqlite:///{database}") as again:
            assert again.run("double", {"n": 1}, timeout=10).status == "completed"


class TestEngineOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"workers": -1},
            {"workers": 1.5},
            {"threads": 0},
            {"room": 0},
            {"lease": 0},
            {"time_budget": "long"},
            {"default_priority": 2**40},
        ],
    )
    def test_an_option_out_of_range_is_refused_by_name(self, database: Path, options: dict[str, Any]) -> None:
        error = refusal(lambda: Engine(app, f"sqlite:///{database}", **options), Invalid)
        assert next(iter(options)) in error.message
        assert not database.exists()

    def test_an_engine_that_does_not_run_says_so(self, database: Path) -> None:
        engine = Engine(app, f"sqlite:///{database}")
        assert "start()" in refusal(lambda: engine.create("double"), EngineUnavailable).message
        engine.start()
        engine.shutdown()
        refusal(lambda: engine.run("double", {"n": 1}), EngineUnavailable)


class TestDatabases:
    def assert_unavailable(self, url: str, *words: str) -> None:
        error = refusal(Engine(app, url).start, EngineUnavailable)
        assert error.code == "unavailable"
        for word in words:
            assert word in error.message
        assert_no_threads()

    def test_a_missing_directory_is_named(self, tmp_path: Path) -> None:
        self.assert_unavailable(f"sqlite:///{tmp_path}/nowhere/flows.db", f"{tmp_path}/nowhere")
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_is_no_database(self, tmp_path: Path) -> None:
        self.assert_unavailable(f"sqlite:///{tmp_path}", str(tmp_path), "directory")

    def test_a_file_that_is_no_database_is_left_as_it_was(self, database: Path) -> None:
        text = b"my diary\n" * 1_000
        database.write_bytes(text)
        self.assert_unavailable(f"sqlite:///{database}", str(database), "not a database")
        assert database.read_bytes() == text

    def assert_refused_to_nobody(self, start_host: StartHost, path: Path) -> None:
        """Root may write everywhere: a host that has given up that right tries."""
        host = start_host(["-m", "tests.acceptance.unprivileged", f"sqlite:///{path}"])
        assert host.wait() == 0, host.output()
        assert "unavailable: " in host.output()
        assert str(path) in host.output()

    def test_a_folder_that_cannot_be_written_to_is_named(
        self, public_folder: Path, start_host: StartHost
    ) -> None:
        public_folder.chmod(0o755)
        self.assert_refused_to_nobody(start_host, public_folder / "flows.db")
        assert list(public_folder.iterdir()) == []

    def test_a_folder_that_cannot_be_looked_into_is_named(
        self, public_folder: Path, start_host: StartHost
    ) -> None:
        public_folder.chmod(0o700)
        self.assert_refused_to_nobody(start_host, public_folder / "flows.db")
        assert list(public_folder.iterdir()) == []

    @pytest.mark.parametrize("writable", [(), ("flows.db.lock",)])
    def test_a_file_that_cannot_be_written_to_is_named(
        self, public_folder: Path, start_host: StartHost, writable: tuple[str, ...]
    ) -> None:
        database = public_folder / "flows.db"
        with Engine(app, f"sqlite:///{database}") as engine:
            engine.run("double", {"n": 1}, timeout=10)
        before = row_counts(database)
        for path in public_folder.iterdir():
            path.chmod(0o666 if path.name in writable else 0o444)
        public_folder.chmod(0o777)
        self.assert_refused_to_nobody(start_host, database)
        assert row_counts(database) == before

    @pytest.mark.parametrize(
        "url", ["", "flows.db", "sqlite:/", "oracle://host/x", "sqlite:///x.db?mode=ro", 5, None]
    )
    def test_a_url_that_names_no_database_of_this_version_is_invalid(self, url: Any) -> None:
        error = refusal(lambda: Engine(app, url).start(), Invalid)
        assert error.code == "invalid"
        assert_no_threads()

    def test_a_database_of_another_program_is_left_alone(self, database: Path) -> None:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("CREATE TABLE mine (x)")
            connection.execute("INSERT INTO mine VALUES (1)")
        with Engine(app, f"sqlite:///{database}") as engine:
            assert engine.run("double", {"n": 1}, timeout=10).status == "completed"
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT x FROM mine").fetchall() == [(1,)]

    def test_a_second_engine_on_the_file_is_told_who_holds_it(self, engine: Engine, database: Path) -> None:
        error = refusal(Engine(app, f"sqlite:///{database}").start, EngineUnavailable)
        assert str(os.getpid()) in error.message
        assert engine.run("double", {"n": 1}, timeout=10).status == "completed"
