"""How many durable steps a second, how fast is one flow, and what CPU does a step cost?

A chain of k no-op tasks, run again and again by n callers, each of which waits for its flow before it starts the next
(a closed loop). Every step is one journal row, committed before its successor starts.

Left out: tasks that do something, state of any size, fan-outs, several replicas, a database over a network. The
callers are threads of the engine's process, so their CPU counts as the engine's, and so does SQLite's; the CPU of a
database server is read when `--database-pid` names its first process (on this machine). CPU clocks tick at 10 ms:
keep `--seconds` at 3 or more for figures to keep.

Command: `python benches/python/bench_chain.py [--database URL] [--steps 3] [--callers 32] [--workers 2]`, or
`make bench`. It prints the machine. Kept figures stand in `benches/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benches.python.cpu import CpuMeter
from penstock import App

app = App("bench_chain")


@app.task
def step() -> dict[str, Any]:
    """Do nothing, durably."""
    return {}


@dataclass(frozen=True, slots=True)
class Figures:
    """What one repeat measured; `us` figures are CPU microseconds per step."""

    flows_per_second: float
    steps_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    engine_us: float
    workers_us: float
    database_us: float


class Callers:
    """Closed-loop callers, one thread each."""

    def __init__(self, engine: Any, workflow: str, number: int) -> None:
        self.engine = engine
        self.workflow = workflow
        self.number = number
        self.failure: BaseException | None = None  # written by any caller, read after the join

    def run(self, seconds: float) -> tuple[list[float], float]:
        """Call for a while: the latencies in seconds of all flows that completed, and the time it took."""
        latencies: list[list[float]] = [[] for _ in range(self.number)]
        started = time.perf_counter()
        end = started + seconds
        threads = [threading.Thread(target=self._call, args=(mine, end)) for mine in latencies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.perf_counter() - started
        if self.failure is not None:
            raise SystemExit(f"a caller failed: {self.failure!r}")
        return [latency for mine in latencies for latency in mine], elapsed

    def _call(self, latencies: list[float], end: float) -> None:
        try:
            while (begun := time.perf_counter()) < end and self.failure is None:
                outcome = self.engine.run(self.workflow, {}, timeout=60)
                if outcome.status != "completed":
                    raise RuntimeError(f"the flow {outcome.status}: {outcome.error}")
                latencies.append(time.perf_counter() - begun)
        except BaseException as error:  # noqa: BLE001 # whatever it was ends the bench, in the main thread
            self.failure = error


def measure(callers: Callers, meter: CpuMeter, seconds: float, steps: int) -> Figures:
    """One repeat."""
    meter.lap()
    latencies, elapsed = callers.run(seconds)
    cpu = meter.lap()
    latencies.sort()
    done_steps = max(len(latencies) * steps, 1)

    def percentile(share: float) -> float:
        return latencies[min(int(len(latencies) * share), len(latencies) - 1)] * 1e3 if latencies else 0.0

    return Figures(
        flows_per_second=len(latencies) / elapsed,
        steps_per_second=len(latencies) * steps / elapsed,
        p50_ms=percentile(0.50),
        p95_ms=percentile(0.95),
        p99_ms=percentile(0.99),
        engine_us=cpu["engine"] / done_steps * 1e6,
        workers_us=cpu["workers"] / done_steps * 1e6,
        database_us=cpu["database"] / done_steps * 1e6,
    )


def median(repeats: Sequence[Figures]) -> Figures:
    """The median of every figure by itself."""
    rows = [asdict(figures) for figures in repeats]
    return Figures(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")
        ]
        model = names[0].partition(": ")[2] if names else model
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A chain of no-op steps, closed loop.")
    parser.add_argument("--database", help="any database URL; default: a SQLite file in a temporary folder")
    parser.add_argument("--database-pid", type=int, help="first process of the database server, for its CPU")
    parser.add_argument("--steps", type=int, default=3, help="steps of a flow (%(default)s)")
    parser.add_argument(
        "--callers", type=int, default=32, help="callers, one flow each at a time (%(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="worker processes, 0 for threads (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a repeat (%(default)s)")
    parser.add_argument(
        "--warmup", type=float, default=2.0, help="seconds that are not counted (%(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="repeats, of which medians are given (%(default)s)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write configuration and figures, - for stdout"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, database: str) -> list[Figures]:
    """Warm up, then measure each repeat with the same engine."""
    from penstock import Engine

    workflow = f"chain_{options.steps}"
    nodes = [f"step_{number}" for number in range(1, options.steps + 1)]
    graph = app.graph(workflow)
    for node in nodes:
        graph.node(node, step)
    graph.chain(*nodes)
    repeats = []
    with Engine(app, database, workers=options.workers) as engine:
        callers = Callers(engine, workflow, options.callers)
        callers.run(options.warmup)
        meter = CpuMeter(options.database_pid)
        for number in range(1, options.repeats + 1):
            repeats.append(measure(callers, meter, options.seconds, options.steps))
            print(
                f"repeat {number}: {repeats[-1].steps_per_second:8.0f} steps/s", file=sys.stderr, flush=True
            )
    return repeats


def show(options: argparse.Namespace, machine: dict[str, Any], figures: Figures) -> None:
    """Print the medians."""
    kind = (options.database or "sqlite").partition(":")[0]
    has_server = options.database_pid is not None
    print(f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {kind}")
    print(
        f"{options.steps}-step chain, {options.callers} callers, {options.workers} workers;"
        f" medians of {options.repeats} repeats of {options.seconds:g} s"
    )
    print(f"  flows/s     {figures.flows_per_second:10.0f}")
    print(f"  steps/s     {figures.steps_per_second:10.0f}")
    print(f"  flow p50    {figures.p50_ms:10.2f} ms")
    print(f"  flow p95    {figures.p95_ms:10.2f} ms")
    print(f"  flow p99    {figures.p99_ms:10.2f} ms")
    print(
        f"  CPU/step    {figures.engine_us:10.1f} µs engine, with callers{'' if has_server else ' and SQLite'}"
    )
    print(f"  CPU/step    {figures.workers_us:10.1f} µs workers and zygote")
    if has_server:
        print(f"  CPU/step    {figures.database_us:10.1f} µs database")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench."""
    options = parse(arguments)
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-chain-") as folder:
        repeats = run(options, options.database or f"sqlite:///{folder}/flows.db")
    figures = median(repeats)
    if str(options.json) != "-":
        show(options, machine, figures)
    if options.json is not None:
        configuration = {
            name: value for name, value in vars(options).items() if name not in ("json", "database")
        }
        kept = {
            "machine": machine,
            "configuration": configuration,
            "medians": asdict(figures),
            "repeats": [asdict(one) for one in repeats],
        }
        text = json.dumps(kept, indent=2) + "\n"
        if str(options.json) == "-":
            sys.stdout.write(text)
        else:
            options.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
