"""The bench runs and keeps what it measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.host import Host


def test_the_bench_of_a_chain_keeps_its_figures(start_host: Callable[..., Host], tmp_path: Path) -> None:
    kept_path = tmp_path / "figures.json"
    arguments = [
        "--seconds=0.3",
        "--warmup=0.1",
        "--repeats=2",
        "--callers=4",
        "--workers=1",
        f"--json={kept_path}",
    ]
    host = start_host(["benches/python/bench_chain.py", *arguments])
    assert host.wait() == 0, host.output()
    kept = json.loads(kept_path.read_text(encoding="utf-8"))
    assert len(kept["repeats"]) == 2
    assert kept["medians"]["steps_per_second"] > 0
    assert 0 < kept["medians"]["p50_ms"] <= kept["medians"]["p99_ms"]
    assert kept["configuration"]["steps"] == 3
