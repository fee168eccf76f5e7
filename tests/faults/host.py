"""A host to be killed: creates flows of `counted`, if any are asked for, and waits for all that have not finished."""

from __future__ import annotations

import sys

from penstock import Engine
from tests.faults.app import PARTS, app


def main(url: str, ledger: str, number: str) -> None:
    with Engine(app, url, workers=2) as engine:
        state = {"ledger": ledger, "parts": list(range(PARTS))}
        engine.create_many("counted", [state] * int(number))
        print("created", flush=True)
        while running := engine.list(status="running", limit=1_000).items:
            for flow in running:
                engine.wait(flow.key)
        print("finished", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
