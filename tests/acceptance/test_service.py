"""A web service that hosts an `AsyncEngine`, as docs/howto/async-service.md describes it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from penstock import App, Engine
from tests.acceptance.test_documented_examples import blocks_of, run_script
from tests.support.host import Host
from tests.support.ledger import Ledger

StartHost = Callable[..., Host]
ADDRESS = re.compile(r"Uvicorn running on (http://\S+:\d+)")
SLOW_ORDERS = """
import os, time
from pathlib import Path
from penstock import App
from tests.support.ledger import note

app = App("orders")

@app.task
def price(ledger: str, gate: str) -> dict:
    note(ledger, did="began")
    end = time.monotonic() + 30
    while not Path(gate).exists() and time.monotonic() < end:
        time.sleep(0.005)
    note(ledger, did="price")
    return {"total": 7}

@app.task
def confirm(ledger: str, total: int) -> dict:
    note(ledger, did="confirm")
    return {"message": f"{total} to pay"}

app.graph("order").chain(price, confirm)
"""


def parents() -> dict[int, int]:
    """The parent of every process that lives; a zombie does not."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


def below(pid: int) -> set[int]:
    """Every process that a process has started, and those have started."""
    parent_of, found = parents(), {pid}
    while more := {child for child, parent in parent_of.items() if parent in found} - found:
        found |= more
    return found - {pid}


class Service:
    """The documented service, running."""

    def __init__(self, host: Host) -> None:
        self.host = host
        found = ADDRESS.search(host.wait_for_output("Uvicorn running on"))
        assert found is not None
        self.address = found[1]

    def post(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send an order, and give the answer to it."""
        request = urllib.request.Request(f"{self.address}/orders", json.dumps(order).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def terminate(self) -> None:
        """Ask it to end, and take note of the processes that have to end with it."""
        self.started = below(self.host.pid)
        assert len(self.started) >= 3, "a zygote and two workers"
        self.host.process.send_signal(signal.SIGTERM)


def write_service(folder: Path, orders: str | None = None) -> None:
    """Write the files of the documentation, with other tasks if some are given."""
    documented, service = blocks_of("docs/howto/async-service.md")
    folder.mkdir(exist_ok=True)
    (folder / "orders.py").write_text(documented if orders is None else orders, encoding="utf-8")
    (folder / "service.py").write_text(service, encoding="utf-8")


def start_service(start_host: StartHost, folder: Path, database_url: str, *, grace: int = 10) -> Service:
    """Run it with a port that the system picks."""
    environment = {
        "PORT": "0",
        "GRACE": str(grace),
        "DATABASE_URL": database_url,
        "PYTHONPATH": str(Path.cwd()),
    }
    return Service(start_host([str(folder / "service.py")], environment))


def wait_until_ended(service: Service) -> int:
    """Wait for the exit code, and see that no process which it had started is left."""
    code = service.host.wait(deadline=40)
    left = service.started & parents().keys()
    assert not left, f"left behind: {left}"
    return code


def test_ten_requests_at_a_time_each_run_a_flow(
    tmp_path: Path, database_url: str, start_host: StartHost
) -> None:
    write_service(tmp_path / "service")
    service = start_service(start_host, tmp_path / "service", database_url)
    with ThreadPoolExecutor(10) as clients:
        answers = list(
            clients.map(service.post, [{"items": [{"price": n}, {"price": 1}]} for n in range(10)])
        )
    assert [answer["status"] for answer in answers] == ["completed"] * 10
    assert [answer["state"]["message"] for answer in answers] == [f"{n + 1} to pay" for n in range(10)]
    assert len({answer["key"] for answer in answers}) == 10
    service.terminate()
    assert wait_until_ended(service) == 0
    assert "Application shutdown complete" in service.host.output()


def test_the_client_of_the_reference_works_beside_the_service(
    tmp_path: Path, database_url: str, start_host: StartHost
) -> None:
    write_service(tmp_path / "service")
    service = start_service(start_host, tmp_path / "service", database_url)
    (script,) = blocks_of("docs/reference/client.md")
    path = tmp_path / "client.py"
    path.write_text(script.replace("sqlite:///orders.db", database_url), encoding="utf-8")
    assert run_script(path) == "7 to pay\n['order']\n"
    service.terminate()
    assert wait_until_ended(service) == 0


def test_a_flow_in_flight_at_sigterm_is_finished_by_the_next_start(
    tmp_path: Path, database_url: str, start_host: StartHost, ledger: Ledger
) -> None:
    folder, gate = tmp_path / "service", tmp_path / "gate"
    write_service(folder, SLOW_ORDERS)
    service = start_service(start_host, folder, database_url, grace=1)
    with ThreadPoolExecutor(1) as clients:
        request = clients.submit(service.post, {"ledger": str(ledger.path), "gate": str(gate)})
        ledger.wait_for(1)
        service.terminate()
        # The request is given up after a second; the task is still at it, and the engine waits for it.
        service.host.wait_for_output("Waiting for application shutdown")
        gate.touch()
        assert wait_until_ended(service) == 0
        assert request.exception() is not None
    done_before = [entry["did"] for entry in ledger.entries()]
    assert done_before[:2] == ["began", "price"]
    again = start_service(start_host, folder, database_url)
    entries = ledger.wait_for(3)
    assert sorted(entry["did"] for entry in entries) == ["began", "confirm", "price"]
    again.terminate()
    assert wait_until_ended(again) == 0


def test_the_file_is_free_after_a_clean_end(tmp_path: Path, database_url: str, start_host: StartHost) -> None:
    write_service(tmp_path / "service")
    service = start_service(start_host, tmp_path / "service", database_url)
    service.post({"items": []})
    service.terminate()
    assert wait_until_ended(service) == 0
    with Engine(App("reader"), database_url) as engine:
        assert [flow.status for flow in engine.list().items] == ["completed"]
