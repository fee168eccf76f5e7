"""Run the checks, the Rust tests and the Python tests, and end with one line: ``N passed, N failed``.

A stage that fails without a failed test of its own (a lint, a compile error, a crash of the runner) counts as one
failure. Later stages run all the same: a formatting slip should not hide a broken test.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTEST_REPORT = ROOT / "target" / "pytest.xml"
CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed;", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """What one stage came to."""

    stage: str
    passed: int
    failed: int
    seconds: float
    databases: tuple[str, ...] = ()


def run(command: Sequence[str]) -> tuple[int, str]:
    """Run a command, show its output as it comes, and return its exit code and output."""
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    return process.returncode, "".join(lines)


def count_nothing(output: str) -> tuple[int, int]:
    """Count a stage that has no tests."""
    del output
    return 0, 0


def count_cargo(output: str) -> tuple[int, int]:
    """Add up the result lines of every test binary."""
    results = CARGO_RESULT.findall(output)
    return sum(int(passed) for passed, _ in results), sum(int(failed) for _, failed in results)


def count_pytest(output: str) -> tuple[int, int]:
    """Read pytest's own report; an error in set-up or tear-down counts as a failure."""
    del output
    if not PYTEST_REPORT.exists():
        return 0, 0
    suites = ET.parse(PYTEST_REPORT).getroot().iter("testsuite")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in suites:
        for name in totals:
            totals[name] += int(suite.get(name, 0))
    failed = totals["failures"] + totals["errors"]
    return max(totals["tests"] - failed - totals["skipped"], 0), failed


def run_stage(stage: str, command: Sequence[str], count: Callable[[str], tuple[int, int]]) -> Result:
    """Run one stage and count its tests."""
    print(f"\n=== {stage}: {' '.join(command)}", flush=True)
    started = time.monotonic()
    code, output = run(command)
    passed, failed = count(output)
    if code != 0 and failed == 0:
        failed = 1
    return Result(stage, passed, failed, time.monotonic() - started, databases_in(output))


def databases_in(output: str) -> tuple[str, ...]:
    """The lines in which pytest names the databases that were really used."""
    _, found, rest = output.rpartition(" databases ---")
    lines = itertools.takewhile(lambda line: not line.startswith(("=", "-")), rest.splitlines()[1:])
    return tuple(lines) if found else ()


def main() -> int:
    """Run all stages in order and print the summary."""
    PYTEST_REPORT.parent.mkdir(exist_ok=True)
    PYTEST_REPORT.unlink(missing_ok=True)
    make = ["make", "--no-print-directory"]
    results = [
        run_stage("checks", [*make, "--keep-going", "check"], count_nothing),
        run_stage("Rust tests", [*make, "rust-test"], count_cargo),
        run_stage(
            "Python tests", [sys.executable, "-m", "pytest", f"--junitxml={PYTEST_REPORT}"], count_pytest
        ),
    ]
    print()
    for result in results:
        verdict = "ok" if result.failed == 0 else "FAILED"
        counts = f"{result.passed} passed, {result.failed} failed"
        print(f"  {result.stage:<14}{verdict:<8}{counts:<28}{result.seconds:6.0f} s")
        for database in result.databases:
            print(f"    {database}")
    print()
    print(f"{sum(r.passed for r in results)} passed, {sum(r.failed for r in results)} failed", flush=True)
    return 1 if any(r.failed for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
