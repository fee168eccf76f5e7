"""The examples that a reader meets first do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(document: str) -> list[str]:
    return BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


def run_script(script: Path) -> str:
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_example_of_the_readme_greets(tmp_path: Path) -> None:
    script = tmp_path / "greet.py"
    script.write_text(blocks_of("README.md")[0], encoding="utf-8")
    assert run_script(script) == "hello ada\n"


def test_the_quickstart_charges_an_order(tmp_path: Path) -> None:
    tasks, graph, host, _ = blocks_of("docs/quickstart.md")
    (tmp_path / "orders.py").write_text(f"{tasks}\n{graph}", encoding="utf-8")
    script = tmp_path / "host.py"
    script.write_text(host, encoding="utf-8")
    assert re.fullmatch(r"completed \S+/\d+: 7\n", run_script(script))


def test_the_workflows_of_the_howto_on_testing_are_tested_as_it_says(tmp_path: Path) -> None:
    workflow, *tests = blocks_of("docs/howto/test-your-workflows.md")
    (tmp_path / "reminders.py").write_text(workflow, encoding="utf-8")
    (tmp_path / "test_reminders.py").write_text("\n".join(tests), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npenstock_app = reminders:app\npythonpath = .\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "penstock.testing.pytest_plugin",
            "-p",
            "no:cacheprovider",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "6 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "page",
    [
        "concepts/graphs",
        "concepts/state",
        "concepts/conditions",
        "concepts/cohorts",
        "concepts/scheduling",
        "reference/graph",
        "reference/operations/history",
        "reference/operations/why",
    ],
)
def test_what_the_pages_on_graphs_state_and_history_assert_holds(tmp_path: Path, page: str) -> None:
    script = tmp_path / "example.py"
    script.write_text("\n".join(blocks_of(f"docs/{page}.md")), encoding="utf-8")
    assert run_script(script) == ""
