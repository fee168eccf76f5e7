"""How processes find the app, what they leave alone, and that none outlives its engine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock import App
from penstock.errors import EngineUnavailable, Invalid
from penstock.workers.pool import Pool
from penstock.workers.spec import AppSpec
from tests.support.waiting import eventually
from tests.workers import frames
from tests.workers.driver import Driver, running_pool
from tests.workers.frames import Step
from tests.workers.processes import children, is_running

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "workers" / "scripts" / "host_script.py"


@contextmanager
def host(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    "how", [[str(SCRIPT)], ["-m", "tests.workers.scripts.host_script"]], ids=["file", "-m"]
)
def test_a_script_is_its_own_app_without_a_guard(how: list[str]) -> None:
    with host(*how, "--flag") as process:
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "result {'n': 15, 'argv': ['--flag'], 'module': '__penstock_main__'}" in out
    assert out.count("top level") == 2
    assert out.count("the script went on") == 1


def test_nothing_outlives_an_engine_that_is_killed() -> None:
    with host(str(SCRIPT), "stay") as process:
        assert process.stdout is not None
        told = next(line for line in process.stdout if line.startswith("pids"))
        pids = [int(pid) for pid in told.split()[1:]]
        assert len(pids) == 2
        assert all(map(is_running, pids))
        process.kill()
        eventually(lambda: not any(map(is_running, pids)), what="the end of zygote and worker", deadline=5)


def test_a_zygote_that_is_killed_takes_its_workers_along_and_is_started_again() -> None:
    async def scenario() -> None:
        async with running_pool(workers=2) as driver:
            zygote, first = driver.pool.zygote_pid, dict(driver.pool.pids)
            os.kill(zygote, signal.SIGKILL)
            await driver.until(
                lambda: len(driver.gone) == 2 and len(driver.alive) == 2, "a new zygote's workers"
            )
            assert driver.pool.zygote_pid != zygote
            assert not any(map(is_running, first.values()))
            driver.pool.send(driver.alive[0], frames.steps(Step(1, "double", {"n": 1})))
            await driver.result(1)

    asyncio.run(scenario())


def test_threads_left_by_the_import_make_workers_by_exec(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running_pool(AppSpec("module", "tests.workers.apps.threaded", "app")) as driver:
            driver.pool.send(driver.up[0], frames.steps(Step(1, "ask", {"n": 1})))
            found = (await driver.result(1)).changes["set"]
            assert found == {"n": 2, "pid": driver.pool.pids[driver.up[0]]}

    asyncio.run(scenario())
    assert "the-answering-thread" in caplog.text


def test_an_app_that_cannot_be_imported_is_reported_with_its_traceback() -> None:
    async def scenario() -> None:
        async with running_pool(AppSpec("module", "tests.workers.apps.broken", "app")):
            pass

    with pytest.raises(EngineUnavailable, match="the configuration is missing") as caught:
        asyncio.run(scenario())
    assert "apps/broken.py" in str(caught.value)


def test_an_address_without_an_app_is_reported() -> None:
    async def scenario() -> None:
        async with running_pool(AppSpec("module", "tests.workers.apps.sample", "nothing")):
            pass

    with pytest.raises(EngineUnavailable, match="nothing"):
        asyncio.run(scenario())


def test_the_import_of_a_module_ends_where_it_starts_an_engine() -> None:
    async def scenario() -> None:
        async with running_pool(AppSpec("module", "tests.workers.apps.starting", "app")) as driver:
            assert sorted(driver.table) == ["above", "between"]

    asyncio.run(scenario())


def test_workers_that_die_before_they_are_up_are_not_started_in_a_spin() -> None:
    async def scenario() -> None:
        driver = Driver()
        pool = driver.pool = Pool(
            AppSpec("module", "tests.workers.apps.dies_in_workers", "app"), workers=1, **driver.callbacks
        )
        await pool.start()
        await driver.until(lambda: pool.trouble, "the trouble")
        await driver.until(lambda: pool._failures == 3, "the third failure")
        assert not driver.up
        assert not driver.gone
        await pool.stop(1)

    asyncio.run(scenario())


def test_the_host_keeps_its_signals_threads_children_and_limits() -> None:
    def look() -> dict[str, Any]:
        return {
            "handlers": [
                signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
            ],
            "threads": threading.enumerate(),
            "children": children(os.getpid()),
            "digits": sys.get_int_max_str_digits(),
            "switch": sys.getswitchinterval(),
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "path": os.environ.get("PYTHONPATH"),
        }

    async def scenario() -> None:
        before = look()
        async with running_pool(workers=2) as driver:
            driver.pool.send(driver.up[0], frames.steps(Step(1, "double", {"n": 1})))
            await driver.result(1)
            assert look() | {"children": [], "descriptors": 0} == before | {"children": [], "descriptors": 0}

    before = look()
    asyncio.run(scenario())
    assert look() == before


def test_an_app_in_a_function_cannot_be_found_and_the_refusal_says_what_to_do() -> None:
    with pytest.raises(Invalid, match="workers=0"):
        AppSpec.of(App())


def test_an_address_is_read_and_a_wrong_one_refused() -> None:
    assert AppSpec.of("shop.tasks:app") == AppSpec("module", "shop.tasks", "app")
    for text in ("shop.tasks", "shop/tasks.py:app", ":app", "shop:"):
        with pytest.raises(Invalid, match=r"package\.module:attribute"):
            AppSpec.of(text)


def test_an_app_of_a_module_is_found_by_its_variable() -> None:
    from tests.workers.apps.sample import app

    assert AppSpec.of(app) == AppSpec("module", "tests.workers.apps.sample", "app")


def test_a_command_line_cannot_be_imported() -> None:
    code = (
        "from penstock import App\nfrom penstock.workers.spec import AppSpec\napp = App()\n"
        "try:\n    AppSpec.of(app)\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    with host("-c", code) as process:
        out, _ = process.communicate(timeout=30)
    assert out.startswith("Invalid")
    assert "workers=0" in out
