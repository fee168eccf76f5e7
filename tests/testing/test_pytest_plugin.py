"""The pytest plugin, in a run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FLOWS = """
from penstock import App, Flow
app = App("orders")

@app.task
def nap(flow: Flow) -> dict:
    flow.sleep(30 * 86_400)
    return {"woke": True}

app.graph("nap").chain(nap)
"""
TEST = """
from datetime import timedelta

def test_nap(penstock_engine, penstock_clock):
    key = penstock_engine.create("nap")
    penstock_engine.advance(timedelta(days=30))
    penstock_engine.assert_ran(key, ["nap"])
    assert penstock_engine.clock is penstock_clock

def test_another_test_has_another_database(penstock_engine):
    assert len(penstock_engine.list()) == 0
    assert sum(one.kind == "worker" for one in penstock_engine.processes()) == {workers}

def test_engines_of_its_own(penstock_new_engine):
    import orders
    assert penstock_new_engine(orders.app, workers=0).run_through("nap").state == {{"woke": True}}
"""


def run(folder: Path, *arguments: str, ini: str = "", workers: int = 0) -> str:
    (folder / "orders.py").write_text(FLOWS)
    (folder / "test_orders.py").write_text(TEST.format(workers=workers))
    (folder / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    package = Path(__file__).resolve().parents[2] / "python"
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-p", "penstock.testing.pytest_plugin"],
            *["-p", "no:cacheprovider", *arguments],
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(package)])},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_fixtures_give_each_test_an_engine_and_a_clock_of_its_own(tmp_path: Path) -> None:
    told = run(tmp_path, ini="penstock_app = orders:app")
    assert "3 passed" in told, told


def test_options_name_the_database_and_the_workers(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        *["--penstock-workers=1", f"--penstock-url=sqlite:///{tmp_path}/flows.db", "-k", "nap"],
        ini="penstock_app = orders:app",
        workers=1,
    )
    assert "1 passed" in told, told
    assert (tmp_path / "flows.db").exists()


def test_a_suite_that_names_no_app_is_told_how(tmp_path: Path) -> None:
    told = run(tmp_path, "-k", "nap")
    assert "Set penstock_app = 'module:attribute' in the ini file, or write a fixture" in told, told


def test_the_plugin_imports_no_engine_before_it_is_asked_for_one() -> None:
    code = (
        "import sys, penstock.testing.pytest_plugin, penstock.testing as t; assert 'TestEngine' in dir(t);"
        "print([m for m in ('sqlalchemy', 'penstock.engine', 'penstock.testing.engine') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"
