"""From a URL to a store, or a sentence that says why not."""

import pytest

from penstock.errors import EngineUnavailable, Invalid
from penstock.store import Outage, open_store


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "is not a database URL"),
        ("oracle://host/db", "Databases of this version: postgresql, sqlite"),
        ("mysql://host/db", "Databases of this version: postgresql, sqlite"),
        ("postgresql+asyncpg://host/db", "write postgresql://"),
        ("postgresql://host/db?prepare=often", "prepare=often is not one of"),
        ("postgresql://host/db?colour=red", "cannot be read"),
        ("sqlite:///x.db?mode=ro", "found mode"),
        ("sqlite:///x.db?synchronous=SOMETIMES", "synchronous=SOMETIMES"),
        ("sqlite:///file:x.db?uri=true", "no other"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(url, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Invalid, match=words):
        open_store(url)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(EngineUnavailable, match="nowhere"):
        open_store(f"sqlite:///{tmp_path}/nowhere/flows.db")


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "flows.db"
    path.write_text("this is a letter, not a database" * 100)
    before = path.read_bytes()
    with pytest.raises(Outage, match="not a database"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_without_a_file_is_a_temporary_one(url):
    store = open_store(url)
    store.register()
    directory = store._location.path.parent
    assert directory.is_dir()
    store.close()
    store.close()
    assert not directory.exists()


@pytest.mark.parametrize(("query", "level"), [("", 2), ("?synchronous=NORMAL", 1), ("?synchronous=extra", 3)])
def test_commits_survive_a_power_failure_unless_asked_otherwise(tmp_path, query, level):
    store = open_store(f"sqlite:///{tmp_path}/flows.db{query}")
    with store._writing() as conn:
        assert conn.exec_driver_sql("PRAGMA synchronous").scalar() == level
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


def test_readers_cannot_write(store):
    with pytest.raises(Outage, match=r"read-?only"), store._reading() as conn:
        conn.exec_driver_sql("DELETE FROM penstock_flows")


def test_the_clock_never_goes_back(store, clock):
    first = store.now()
    clock.ms -= 10_000
    assert store.now() == first
    clock.ms += 20_000
    assert store.now() == first + 10_000


def test_by_default_the_clock_is_the_process_s(path):
    store = open_store(f"sqlite:///{path}")
    assert 1_600_000_000_000 < store.now() <= store.now()
    store.close()
