"""A task that takes its engine down with it: counted at takeover, and never for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

HOST = Path(__file__).with_name("killer.py")


def test_a_task_that_kills_its_engine_fails_as_poison_and_others_complete(tmp_path: Path) -> None:
    """The first death is not known to be its doing; from then on it starts alone, and each death counts."""
    command = [sys.executable, str(HOST), f"sqlite:///{tmp_path / 'flows.db'}"]
    deaths = 0
    while True:
        host = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if host.returncode == 0:
            break
        assert host.returncode == -signal.SIGKILL, host.stderr
        deaths += 1
        assert deaths <= 4, "one death that nobody saw coming, and three alone"
    assert deaths == 4
    assert host.stdout.splitlines() == ["harmless completed None", "killer failed poison"]
