"""The command line: find or create the flow, show its progress, print what it found.

A run that was interrupted, even by `kill -9`, is found again in the database by its input, and goes on where its
journal ends.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.verify_packages import distributions as dists
from examples.verify_packages.progress import Progress, count_branches
from examples.verify_packages.report import render_table
from examples.verify_packages.workflow import app, graph
from penstock import Engine, Outcome
from penstock.errors import PenstockError
from penstock.outcome import FINISHED

WORKFLOW = "verify_packages"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.verify_packages", description=__doc__)
    parser.add_argument(
        "--database", default="sqlite:///verify_packages.db", help="where the flow lives (%(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="worker processes, 0 for threads (%(default)s)"
    )
    parser.add_argument(
        "--path", action="append", default=[], type=Path, help="another folder; may be given often"
    )
    parser.add_argument("--only", action="store_true", help="verify nothing but the folders given by --path")
    parser.add_argument(
        "--report", type=Path, default=Path("verify_packages.md"), help="Markdown; JSON beside it"
    )
    parser.add_argument("--limit", type=int, help="verify the first distributions only")
    parser.add_argument("--ledger", type=Path, help="append a line for every distribution that is looked at")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--fresh", action="store_true", help="give up an unfinished run and start a new one")
    again.add_argument("--resume", action="store_true", help="show the last run, if it has finished, again")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a file differs or is missing")
    options = parser.parse_args(arguments)
    if options.only and not options.path:
        parser.error("--only needs at least one --path")
    return options


def make_input(options: argparse.Namespace) -> dict[str, Any]:
    """The input of the flow; the same one means the same run."""
    roots = [] if options.only else dists.default_roots()
    wanted: dict[str, Any] = {
        "roots": list(dict.fromkeys([*roots, *dists.existing(options.path)])),
        "report": str(options.report.resolve()),
    }
    if options.limit is not None:
        wanted["limit"] = options.limit
    if options.ledger is not None:
        wanted["ledger"] = str(options.ledger.resolve())
    return wanted


def find_or_create(engine: Engine, wanted: dict[str, Any], options: argparse.Namespace) -> tuple[str, bool]:
    """Key of the flow to follow, and whether it was there before.

    Runs with the same input are counted in a tag; the idempotency key makes sure that each number is used once.
    """
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
    earlier = engine.list(workflow=WORKFLOW, tags={"input": digest}, limit=1).items
    number = 1
    if earlier:
        last = earlier[0]
        if last.status in FINISHED:
            if options.resume:
                return last.key, True
        elif not options.fresh:
            return last.key, True
        else:
            engine.cancel(last.key, "given up for a fresh run")
        number = int(last.tags["run"]) + 1
    key = engine.create(
        WORKFLOW,
        wanted,
        tags={"input": digest, "run": str(number)},
        idempotency_key=f"verify:{digest}:{number}",
    )
    return key, False


def follow(engine: Engine, key: str) -> Outcome:
    """Show progress until the flow has ended."""
    progress = Progress()
    try:
        while True:
            outcome = engine.poll(key, timeout=0.2)
            progress.show(*count_branches(engine.history(key)), is_last=outcome.is_finished)
            if outcome.is_finished:
                return outcome
    finally:
        progress.finish()


def show(outcome: Outcome, options: argparse.Namespace) -> int:
    """Print the summary and the diagram; the exit code says how it went."""
    if outcome.status != "completed":
        reason = outcome.error.message if outcome.error else outcome.cancel_reason
        print(f"the flow {outcome.status}: {reason}")
        return 2
    state = outcome.state
    print(f"\n{render_table(state)}\n")
    for title, name in (
        ("differ", "mismatches"),
        ("are missing", "missing"),
        ("could not be verified", "failed"),
    ):
        findings = state.get(name) or []
        print(f"{len(findings):6} {title}")
        for one in findings[:10]:
            print(
                f"         {one['distribution']}: {one.get('path', one.get('reason'))} {one.get('problem', '')}".rstrip()
            )
    print(f"\nverdict: {state['verdict']}\n\n{graph.mermaid().strip()}\n")
    print(f"report:   {state['written'][0]} and {Path(state['written'][1]).name}")
    print(f"database: {options.database}")
    return 1 if options.strict and state["verdict"] != "intact" else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, with --strict 1 for changed files, 2 for a flow that did not complete."""
    options = parse(arguments)
    wanted = make_input(options)
    try:
        with Engine(app, options.database, workers=options.workers) as engine:
            key, is_known = find_or_create(engine, wanted, options)
            print(f"{'going on with' if is_known else 'started'} flow {key}", flush=True)
            outcome = follow(engine, key)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here")
        return 130
    except PenstockError as error:
        print(f"{error.code}: {error}")
        return 2
    return show(outcome, options)
