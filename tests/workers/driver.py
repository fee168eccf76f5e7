"""A pool on a loop of its own, driven and watched by a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from penstock.workers.channel import Channel
from penstock.workers.exit_codes import WorkerExit
from penstock.workers.inline import InlinePool
from penstock.workers.pool import Pool
from penstock.workers.spec import AppSpec
from penstock.workers.tasks import TaskTable
from tests.workers.frames import Result, ResultReader

SAMPLE = AppSpec("module", "tests.workers.apps.sample", "app")


class Driver:
    """What a pool has told so far. `events` is everything, in order."""

    def __init__(self) -> None:
        self.pool: Pool | InlinePool
        self.table = TaskTable()
        self.readers: dict[int, ResultReader] = {}
        self.up: list[int] = []
        self.gone: dict[int, WorkerExit] = {}
        self.results: dict[int, Result] = {}
        self.fetched: list[int] = []
        self.events: list[tuple[str, int]] = []
        self._changed = asyncio.Event()

    def on_worker(self, worker: int, _channel: Channel) -> None:
        self.up.append(worker)
        self.readers[worker] = ResultReader()
        self._note("up", worker)

    def on_data(self, worker: int, data: bytes) -> None:
        reader = self.readers[worker]
        asked = len(reader.fetches)
        results = reader.feed(data)
        for dispatch in reader.fetches[asked:]:
            self.fetched.append(dispatch)
            self._note("fetch", dispatch)
        for result in results:
            self.results[result.dispatch] = result
            self._note("result", result.dispatch)

    def on_gone(self, worker: int, end: WorkerExit) -> None:
        self.gone[worker] = end
        self._note("gone", worker)

    @property
    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {"on_worker": self.on_worker, "on_data": self.on_data, "on_gone": self.on_gone}

    @property
    def alive(self) -> list[int]:
        return [worker for worker in self.up if worker not in self.gone]

    async def until(self, fact: Callable[[], Any], what: str, deadline: float = 20.0) -> Any:
        """Wait until a fact holds: looked at after each event, and now and then for facts outside."""
        try:
            async with asyncio.timeout(deadline):
                while not (answer := fact()):
                    self._changed.clear()
                    try:
                        async with asyncio.timeout(0.005):
                            await self._changed.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            raise AssertionError(f"waited {deadline:g} s for {what}; events: {self.events}") from None
        return answer

    async def result(self, dispatch: int) -> Result:
        found: Result = await self.until(lambda: self.results.get(dispatch), f"the result of {dispatch}")
        return found

    def _note(self, kind: str, number: int) -> None:
        self.events.append((kind, number))
        self._changed.set()


@asynccontextmanager
async def running_pool(
    spec: AppSpec = SAMPLE, *, workers: int = 1, threads: int = 1
) -> AsyncIterator[Driver]:
    driver = Driver()
    driver.pool = Pool(spec, workers=workers, threads=threads, **driver.callbacks)
    async with _started(driver):
        await driver.until(lambda: len(driver.alive) == workers, "the workers")
        yield driver


@asynccontextmanager
async def running_inline(app: Any, *, threads: int = 1) -> AsyncIterator[Driver]:
    driver = Driver()
    driver.pool = InlinePool(app, threads=threads, **driver.callbacks)
    async with _started(driver):
        await driver.until(lambda: driver.alive, "the threads")
        yield driver


@asynccontextmanager
async def _started(driver: Driver) -> AsyncIterator[None]:
    try:
        driver.table = await driver.pool.start()
        yield
    finally:
        await driver.pool.stop(5.0)
