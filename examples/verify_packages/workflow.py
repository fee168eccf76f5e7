"""The workflow: list the distributions, verify each in a branch of its own, join what was found, write a report.

Workers run the branches in parallel. A branch that has finished is in the journal and is never run again, however
often the host is killed and started.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from examples.verify_packages import distributions as dists
from examples.verify_packages import report as reports
from penstock import App, Flow
from penstock.errors import Permanent

app = App("verify_packages")


@app.task
def list_distributions(roots: list[str], limit: int | None = None) -> dict[str, Any]:
    """Find every distribution in the given folders; each becomes a branch."""
    owners = dists.read_dpkg_owners()
    found = [one for root in roots for one in dists.find_distributions(Path(root), owners)]
    return {"distributions": found[:limit]}


@app.task
def verify(flow: Flow, distribution: dict[str, str], ledger: str | None = None) -> dict[str, Any]:
    """Check size and checksum of every file of one distribution."""
    name = f"{distribution['name']} {distribution['version']}".strip()
    if ledger:
        note(ledger, {"step": flow.step_key, "distribution": name})
    try:
        entries = dists.read_manifest(distribution["manifest"], Path(distribution["root"]))
    except dists.NoManifestError as error:
        raise Permanent("no_manifest", str(error)) from error
    total_bytes = 0
    mismatches, missing = [], []
    for entry in entries:
        size, problem = dists.check(entry)
        total_bytes += size
        if problem == "missing":
            missing.append({"distribution": name, "path": str(entry.path)})
        elif problem:
            mismatches.append({"distribution": name, "path": str(entry.path), "problem": problem})
    checked = {"name": name, "root": distribution["root"], "files": len(entries), "bytes": total_bytes}
    return {
        "files": len(entries),
        "bytes": total_bytes,
        "mismatches": mismatches,
        "missing": missing,
        "checked": [checked],
    }


@app.task
def note_unlisted(distribution: dict[str, str], on_error: dict[str, Any]) -> dict[str, Any]:
    """Take over a branch that could not be verified, and say why."""
    name = f"{distribution['name']} {distribution['version']}".strip()
    entry = {"distribution": name, "root": distribution["root"], "reason": on_error["message"]}
    return {"unlisted" if on_error["code"] == "no_manifest" else "failed": [entry]}


@app.task
def summarise(flow: Flow) -> dict[str, Any]:
    """Join: by now the reducers have put the branches together."""
    is_intact = not (flow.get("mismatches") or flow.get("missing") or flow.get("failed"))
    return {"verdict": "intact" if is_intact else "changed"}


@app.task
def write_report(flow: Flow, report: str) -> dict[str, Any]:
    """Write the Markdown report and its JSON twin, each at once: running twice leaves the same files."""
    state = flow.as_dict()
    seconds = round((flow.now - flow.created_at).total_seconds(), 1)
    markdown, twin = Path(report), Path(report).with_suffix(".json")
    write_at_once(markdown, reports.render_markdown(state, graph.mermaid(), seconds))
    write_at_once(twin, json.dumps(reports.summary(state, seconds), indent=2) + "\n")
    return {"written": [str(markdown), str(twin)]}


def note(ledger: str, entry: dict[str, Any]) -> None:
    """Append one line with one write, so that lines of several workers do not mix."""
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(descriptor)


def write_at_once(path: Path, text: str) -> None:
    """Replace a file, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    draft.replace(path)


graph = app.graph("verify_packages")
graph.entry(list_distributions)
graph.node("verify", verify, time_budget=timedelta(minutes=10))
graph.for_each(list_distributions, verify, over="distributions", bind="distribution")
graph.on_error(verify, note_unlisted)
graph.edge(verify, summarise)
graph.edge(note_unlisted, summarise)
graph.fan_in(summarise)
graph.chain(summarise, write_report)
graph.reducer("files", "add")
graph.reducer("bytes", "add")
for findings in ("mismatches", "missing", "unlisted", "failed", "checked"):
    graph.reducer(findings, "append")
