"""A host of one engine among several, which runs what it finds until it is told to end."""

from __future__ import annotations

import logging
import signal
import sys

from penstock import Engine
from tests.faults.app import app

#: Seconds; short, so that a takeover is soon.
LEASE = 1.5
#: Flows that one engine takes at a time, so that a load is shared.
ROOM = 16


def main(url: str, name: str = "") -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with Engine(app, url, workers=2, lease=LEASE, room=ROOM, name=name or None):
        print("engine runs", flush=True)
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main(*sys.argv[1:])
