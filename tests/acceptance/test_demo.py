"""The main job: verify distributions, be killed, go on, and never verify again what the journal holds."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import Host
from tests.support.ledger import Ledger
from tests.support.waiting import eventually

# Enough that a run is far from its end when the ledger has a few lines.
NUMBER = 300
KILL_AFTER = 25

StartHost = Callable[..., Host]


def make_distribution(root: Path, name: str, files: dict[str, bytes], *, is_listed: bool = True) -> None:
    """Lay out a distribution as an installer would."""
    metadata = root / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
    )
    lines = []
    for path, content in files.items():
        file = root / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name}/{path},sha256={digest},{len(content)}\n")
    if is_listed:
        record = [*lines, f"{name}-1.0.dist-info/RECORD,,\n"]
        (metadata / "RECORD").write_text("".join(record), encoding="utf-8")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder of distributions: most are whole, one differs, one misses a file, two carry no list."""
    root = tmp_path / "site-packages"
    for number in range(NUMBER):
        content = {f"module_{place}.py": f"# {number} {place}\n".encode() * 400 for place in range(4)}
        make_distribution(root, f"whole{number:03}", content)
    make_distribution(root, "changed", {"a.py": b"a", "b.py": b"b"})
    (root / "changed" / "b.py").write_bytes(b"c")
    make_distribution(root, "incomplete", {"a.py": b"a", "b.py": b"b"})
    (root / "incomplete" / "a.py").unlink()
    make_distribution(root, "bare1", {"a.py": b"a"}, is_listed=False)
    make_distribution(root, "bare2", {"a.py": b"a"}, is_listed=False)
    return root


@pytest.fixture
def command(tmp_path: Path, packages: Path, ledger: Ledger) -> list[str]:
    """The command line of the demo, on the small folder."""
    return [
        "-m",
        "examples.verify_packages",
        f"--database=sqlite:///{tmp_path / 'verify.db'}",
        f"--path={packages}",
        "--only",
        f"--report={tmp_path / 'report.md'}",
        f"--ledger={ledger.path}",
    ]


def read_report(tmp_path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    return report


def assert_the_report_is_right(tmp_path: Path, packages: Path) -> None:
    report = read_report(tmp_path)
    assert report["verdict"] == "changed"
    assert report["distributions"] == NUMBER + 4
    assert report["files"] == NUMBER * 4 + 4
    assert report["mismatches"] == [
        {"distribution": "changed 1.0", "path": f"{packages}/changed/b.py", "problem": "sha256 differs"}
    ]
    assert report["missing"] == [{"distribution": "incomplete 1.0", "path": f"{packages}/incomplete/a.py"}]
    assert [one["distribution"] for one in report["unlisted"]] == ["bare1 1.0", "bare2 1.0"]
    assert [one["name"] for one in report["checked"]] == sorted(one["name"] for one in report["checked"])
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# Integrity")


def journaled_steps(database: Path) -> set[int]:
    """Numbers of the verify steps that the journal holds as finished."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT step FROM penstock_journal WHERE node = 'verify' AND event IN ('done', 'failed')"
        ).fetchall()
    return {step for (step,) in rows}


def steps_of(entries: list[dict[str, Any]]) -> list[int]:
    return [int(entry["step"].rpartition("/")[2]) for entry in entries]


def test_the_demo_verifies_and_reports(
    start_host: StartHost, command: list[str], tmp_path: Path, packages: Path, ledger: Ledger
) -> None:
    host = start_host([*command, "--strict"])
    assert host.wait() == 1, host.output()
    output = host.output()
    assert_the_report_is_right(tmp_path, packages)
    assert "verdict: changed" in output
    assert "flowchart" in output or "graph " in output
    assert set(ledger.counts("distribution").values()) == {1}


def test_a_killed_demo_goes_on_with_the_same_flow_and_verifies_nothing_twice(
    start_host: StartHost, command: list[str], tmp_path: Path, packages: Path, ledger: Ledger
) -> None:
    first = start_host(command)
    first.wait_for(lambda: len(ledger.entries()) >= KILL_AFTER, what=f"{KILL_AFTER} verified distributions")
    first.kill()
    finished = journaled_steps(tmp_path / "verify.db")
    eventually(lambda: not first.members(), what="the workers of the dead host to end")
    noted = len(ledger.entries())
    assert 0 < len(finished) < NUMBER, "the run was killed half way"

    second = start_host(command)
    assert second.wait() == 0, second.output()
    assert f"going on with flow {flow_of(first, 'started')}" in second.output()
    again = steps_of(ledger.entries()[noted:])
    assert not finished & set(again), "steps in the journal were verified again"
    assert len(set(steps_of(ledger.entries()))) == NUMBER + 4
    assert_the_report_is_right(tmp_path, packages)


def test_a_finished_run_is_followed_by_a_new_one_unless_it_is_to_be_shown_again(
    start_host: StartHost, command: list[str], ledger: Ledger
) -> None:
    short = [*command, "--limit=5"]
    hosts = []
    for extra in ([], [], ["--resume"]):
        hosts.append(start_host([*short, *extra]))
        assert hosts[-1].wait() == 0, hosts[-1].output()
    first, second = (flow_of(host, "started") for host in hosts[:2])
    assert first != second
    assert flow_of(hosts[2], "going on with") == second
    assert len(ledger.entries()) == 10


def flow_of(host: Host, words: str) -> str:
    """The key that the host printed after `words`."""
    line = next(line for line in host.output().splitlines() if line.startswith(f"{words} flow "))
    return line.rpartition(" ")[2]
