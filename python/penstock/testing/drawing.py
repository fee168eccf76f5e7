"""A history as a few lines of text, for the messages of assertions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.outcome import StepInfo

# A fan-out of a thousand would bury what is of interest.
_MOST_STEPS = 60


def draw(history: Sequence[StepInfo]) -> str:
    """One line a step, in order of creation, the children of a step below it.

    A line holds number, node, place among the branches of a cohort, status, attempts above one, what led here, and why it
    failed.
    """
    return "\n".join(_lines(history, "  ")) or "  (no step)"


def _lines(history: Sequence[StepInfo], indent: str) -> Iterator[str]:
    shown = history[:_MOST_STEPS]
    width = max((len(step.node) for step in shown), default=0)
    for step in shown:
        place = "" if step.ordinal is None else f"[{step.ordinal}]"
        line = f"{indent}{step.number:>3} {step.node:<{width}} {place:<4} {step.status}"
        if step.attempt:
            line += f" at attempt {step.attempt + 1}"
        if step.predecessors:
            line += f" ← {', '.join(map(str, step.predecessors))}"
        if step.error is not None and step.status != "completed":
            line += f": {step.error.code}: {step.error.message}"
        yield line
        for child in step.children:
            yield from _lines(child, f"{indent}      ")
    if len(history) > len(shown):
        yield f"{indent}… and {len(history) - len(shown)} more"
