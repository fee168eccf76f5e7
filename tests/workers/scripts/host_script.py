"""A script that is its own app, with a stand-in for the engine: run as a file or by `python -m`."""

import asyncio
import sys

from penstock import App
from penstock.workers.main_import import stop_if_importing
from penstock.workers.spec import AppSpec

app = App()


class Point:
    """A class of the script, which its tasks must find."""


@app.task
def triple(n: int) -> dict[str, object]:
    return {"n": 3 * n, "argv": sys.argv[1:], "module": Point.__module__}


async def engine() -> None:
    from tests.workers import frames
    from tests.workers.driver import running_pool

    async with running_pool(AppSpec.of(app)) as driver:
        driver.pool.send(driver.up[0], frames.steps(frames.Step(1, "triple", {"n": 5})))
        print("pids", driver.pool.zygote_pid, *driver.pool.pids.values(), flush=True)
        print("result", (await driver.result(1)).changes["set"], flush=True)
        if "stay" in sys.argv:
            await asyncio.Event().wait()


print("top level", flush=True)
stop_if_importing(app)
asyncio.run(engine())
print("the script went on", flush=True)
