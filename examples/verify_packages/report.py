"""What was found, as text: the summary table of the terminal, the Markdown report and its JSON twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
LONGEST_LIST = 200


def summary(state: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The findings without the working fields of the workflow."""
    findings = {
        name: state.get(name) or [] for name in ("mismatches", "missing", "unlisted", "failed", "checked")
    }
    return {
        "verdict": state.get("verdict", "unknown"),
        "seconds": seconds,
        "distributions": len(state.get("distributions") or []),
        "files": state.get("files") or 0,
        "bytes": state.get("bytes") or 0,
        **findings,
    }


def rows_by_root(state: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row for each folder, and one for all: distributions, files, size, without a list."""
    checked, unlisted = state.get("checked") or [], state.get("unlisted") or []
    rows: list[tuple[str, ...]] = []
    for root in dict.fromkeys(one["root"] for one in (*checked, *unlisted)):
        here = [one for one in checked if one["root"] == root]
        bare = sum(one["root"] == root for one in unlisted)
        files, size = sum(one["files"] for one in here), sum(one["bytes"] for one in here)
        rows.append((root, str(len(here)), str(files), human_size(size), str(bare)))
    files, size = state.get("files") or 0, state.get("bytes") or 0
    rows.append(("all", str(len(checked)), str(files), human_size(size), str(len(unlisted))))
    return rows


HEADINGS = ("folder", "verified", "files", "size", "without a list")


def render_table(state: Mapping[str, Any]) -> str:
    """The summary for a terminal."""
    rows = [HEADINGS, *rows_by_root(state)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def render_markdown(state: Mapping[str, Any], diagram: str, seconds: float) -> str:
    """The report."""
    table = [
        "| " + " | ".join(row) + " |" for row in (HEADINGS, ("---",) * len(HEADINGS), *rows_by_root(state))
    ]
    parts = [
        "# Integrity of the Python distributions of this machine",
        f"Verdict: **{state.get('verdict', 'unknown')}**, after {seconds} s.",
        "\n".join(table),
        render_findings("Files that differ", state.get("mismatches"), ("distribution", "path", "problem")),
        render_findings("Files that are missing", state.get("missing"), ("distribution", "path")),
        render_findings("Could not be verified", state.get("failed"), ("distribution", "root", "reason")),
        render_findings("Carry no list of files", state.get("unlisted"), ("distribution", "root", "reason")),
        f"## The workflow\n\n```mermaid\n{diagram.strip()}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_findings(title: str, findings: Sequence[Mapping[str, str]] | None, fields: Sequence[str]) -> str:
    """One section of the report; nothing at all where there is nothing to say."""
    if not findings:
        return ""
    lines = ["- " + " · ".join(f"`{one[field]}`" for field in fields) for one in findings[:LONGEST_LIST]]
    if len(findings) > LONGEST_LIST:
        lines.append(f"- … and {len(findings) - LONGEST_LIST} more, in the JSON file")
    return f"## {title} ({len(findings)})\n\n" + "\n".join(lines)


def human_size(size: float) -> str:
    """A number of bytes for people."""
    for unit in UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {UNITS[-1]}"
