"""A flow's history as a Mermaid chart: steps coloured by status, times, and children in boxes."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from penstock._core import mermaid_head, mermaid_label
from penstock.operations.context import Context
from penstock.operations.history import Steps, history
from penstock.outcome import StepInfo

_STYLES: Final = {
    "ready": "fill:#eef,stroke:#88a",
    "running": "fill:#def,stroke:#06c,stroke-dasharray:4",
    "waiting": "fill:#eee,stroke:#888,stroke-dasharray:4",
    "parked": "fill:#fed,stroke:#c80",
    "completed": "fill:#dfd,stroke:#282",
    "routed": "fill:#ffd,stroke:#a80",
    "failed": "fill:#fdd,stroke:#c00",
    "cancelled": "fill:#ddd,stroke:#c00,stroke-dasharray:4",
}
_FINISHED: Final = {"completed", "routed", "failed", "cancelled"}


def history_mermaid(context: Context, key: str, direction: str = "TB") -> str:
    """Draw the steps of a flow. Nothing of it depends on what a name holds."""
    head = mermaid_head(direction)
    steps = history(context, key)
    lines = ["start((START))", *_flow(steps, "s"), *_edges("start", steps, "s")]
    if steps and all(step.status in _FINISHED for step in steps):
        lines += ["stop((END))", *(f"s{number} --> stop" for number in _last(steps))]
    lines += [f"classDef {status} {style}" for status, style in _STYLES.items()]
    return head + "".join(f"    {line}\n" for line in lines)


def _flow(steps: Steps, prefix: str) -> list[str]:
    """The steps of one flow, each followed by the boxes of its children."""
    lines: list[str] = []
    for step in steps:
        here = f"{prefix}{step.number}"
        lines.append(f'{here}["{_label(step)}"]:::{step.status}')
        for at, child in enumerate(step.children):
            if child:
                inner = f"{here}c{at}s"
                lines += [
                    f'subgraph {here}c{at}["called by {mermaid_label(step.node)}"]',
                    *_flow(child, inner),
                    "end",
                ]
                lines += _edges(here, child, inner, arrow="-.->")
    return lines


def _edges(start: str, steps: Steps, prefix: str, arrow: str = "-->") -> list[str]:
    """The ways between the steps of one flow; a step without a predecessor hangs on *start*."""
    lines: list[str] = []
    for step in steps:
        here = f"{prefix}{step.number}"
        lines += [f"{prefix}{number} --> {here}" for number in step.predecessors]
        if not step.predecessors:
            lines.append(f"{start} {arrow} {here}")
    return lines


def _last(steps: Steps) -> list[int]:
    followed = {number for step in steps for number in step.predecessors}
    return [step.number for step in steps if step.number not in followed and step.status == "completed"]


def _label(step: StepInfo) -> str:
    told = [step.status]
    if step.attempt:
        told.append(f"attempt {step.attempt + 1}")
    for word, time in (("ran", step.ran), ("queued", step.queued), ("waited", step.waited)):
        if time:
            told.append(f"{word} {_time(time)}")
    return f"{mermaid_label(step.node)}<br/>{mermaid_label(', '.join(told))}"


def _time(time: timedelta) -> str:
    seconds = time.total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
