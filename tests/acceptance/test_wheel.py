"""The wheel holds everything that an installed Penstock needs, and nothing else. `make wheel` builds it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python"


@pytest.fixture(scope="module")
def wheel() -> Path:
    found = sorted((ROOT / "dist").glob("penstock-*.whl"))
    assert len(found) == 1, f"`make wheel` leaves exactly one wheel in dist/, found {found}"
    return found[0]


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", ["_core.abi3.so", "_core.pyi", "py.typed", "__init__.py"])
def test_the_wheel_holds_extension_stub_and_marker(names: set[str], name: str) -> None:
    assert f"penstock/{name}" in names


def test_the_wheel_holds_every_file_of_the_package(names: set[str]) -> None:
    expected = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".so")
    }
    assert any("migrations" in name for name in expected)
    assert not expected - names


def test_the_wheel_holds_nothing_but_the_package_and_its_metadata(names: set[str]) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"penstock"}
    assert [name for name in names if name.endswith(".so")] == ["penstock/_core.abi3.so"]


def test_the_wheel_serves_every_python_from_3_11_on(wheel: Path, unpacked: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    metadata = HeaderParser().parsestr(
        next(unpacked.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    )
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == {"mysql", "mssql", "otel", "cli", "all"}


def test_the_unpacked_wheel_can_be_imported_in_place_of_the_source(unpacked: Path) -> None:
    script = "import penstock, penstock._core; print(penstock.__file__); print(penstock._core.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=unpacked,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert all(Path(line).is_relative_to(unpacked) for line in done.stdout.splitlines())
