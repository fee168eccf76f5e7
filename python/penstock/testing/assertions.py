"""Assertions on what flows did. Each message draws the flow's history."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from penstock.testing.drawing import draw

if TYPE_CHECKING:
    from penstock.outcome import Outcome, StepInfo

#: Steps that came to an end of their own: `routed` ones failed and their handler took over.
_ENDED = ("completed", "routed", "failed")


class Assertions:
    """What `TestEngine` can assert of a flow, given by its key or by an outcome."""

    @abstractmethod
    def history(self, key: str) -> tuple[StepInfo, ...]:
        """As of any engine."""

    @abstractmethod
    def snapshot(self, key: str) -> Outcome:
        """As of any engine."""

    def draw(self, flow: str | Outcome) -> str:
        """The flow's history, one line a step."""
        return draw(self.history(_key(flow)))

    def ran(self, flow: str | Outcome) -> list[str]:
        """Nodes of the steps that ended, in the order of their ends; once for each step, however many attempts it took."""
        return [step.node for step in self._ended(flow)]

    def assert_ran(self, flow: str | Outcome, nodes: Sequence[str], *, in_order: bool = True) -> None:
        """Assert that just these nodes ran, and no others.

        Args:
            flow: A key or an outcome.
            nodes: One for each step, those of a loop or a `for_each` as often as they ran.
            in_order: Whether they ended in this order, too.
        """
        ran, wanted = self.ran(flow), list(nodes)
        is_so = ran == wanted if in_order else Counter(ran) == Counter(wanted)
        if not is_so:
            order = "" if in_order else ", in any order"
            self._fail(flow, f"ran {ran} instead of {wanted}{order}{_difference(ran, wanted)}")

    def assert_ran_before(self, flow: str | Outcome, first: str, second: str) -> None:
        """Assert that every step of one node ended before any of the other was made, and that both ran."""
        steps = self._ended(flow)
        firsts = [step.finished_at for step in steps if step.node == first]
        seconds = [step.created_at for step in steps if step.node == second]
        for node, found in ((first, firsts), (second, seconds)):
            if not found:
                self._fail(flow, f"{node!r} did not run")
        if not all(a is not None and b is not None and a <= b for a in firsts for b in seconds):
            self._fail(flow, f"{first!r} did not end before {second!r} began")

    def assert_times(self, flow: str | Outcome, node: str, times: int) -> None:
        """Assert how many steps of a node ended."""
        if (found := self.ran(flow).count(node)) != times:
            self._fail(flow, f"{node!r} ran {found} times instead of {times}")

    def assert_not_ran(self, flow: str | Outcome, *nodes: str) -> None:
        """Assert that no step of these nodes was ever made."""
        made = {step.node for step in self.history(_key(flow))}
        if found := sorted(made & set(nodes)):
            self._fail(flow, f"reached {', '.join(map(repr, found))}")

    def assert_attempts(self, flow: str | Outcome, node: str, attempts: int) -> None:
        """Assert how many attempts each step of a node took, the first one counted; retries only are more."""
        steps = [step for step in self.history(_key(flow)) if step.node == node]
        found = [step.attempt + 1 for step in steps]
        if not steps or any(count != attempts for count in found):
            told = ", ".join(map(str, found)) or "no"
            self._fail(flow, f"{node!r} took {told} attempts instead of {attempts}")

    def assert_failed_at(self, flow: str | Outcome, node: str, code: str | None = None) -> None:
        """Assert that a step of a node failed, caught or not, and with which code."""
        failed = [step for step in self._ended(flow) if step.node == node and step.status != "completed"]
        errors = [step.error for step in failed if step.error is not None]
        if not errors:
            self._fail(flow, f"{node!r} did not fail")
        if code is not None and code not in (codes := [error.code for error in errors]):
            self._fail(flow, f"{node!r} failed with {codes} instead of {code!r}")

    def assert_status(self, flow: str | Outcome, status: str) -> None:
        """Assert how a flow stands now."""
        now = self.snapshot(_key(flow))
        if now.status != status:
            why = f": {now.error.code}: {now.error.message}" if now.error is not None else ""
            self._fail(flow, f"is {now.status} instead of {status}{why}")

    def assert_state(self, flow: str | Outcome, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Assert the values of some fields of the state as it stands now; None for a field that is not there."""
        state = self.snapshot(_key(flow)).state
        wanted = {**(fields or {}), **more}
        wrong = [name for name, value in wanted.items() if state.get(name) != value]
        if wrong:
            told = "; ".join(f"{name} is {state.get(name)!r} instead of {wanted[name]!r}" for name in wrong)
            self._fail(flow, f"has another state: {told}")

    def _ended(self, flow: str | Outcome) -> list[StepInfo]:
        ended = [step for step in self.history(_key(flow)) if step.status in _ENDED]
        return sorted(ended, key=lambda step: max(event.ord for event in step.events))

    def _fail(self, flow: str | Outcome, what: str) -> NoReturn:
        # Which of the engine's lines found it says nothing.
        __tracebackhide__ = True
        raise AssertionError(f"flow {_key(flow)} {what}\n{self.draw(flow)}")


def _key(flow: str | Outcome) -> str:
    return flow if isinstance(flow, str) else flow.key


def _difference(ran: Iterable[str], wanted: Iterable[str]) -> str:
    missing, extra = Counter(wanted) - Counter(ran), Counter(ran) - Counter(wanted)
    words = [
        f"{what} {', '.join(sorted(found.elements()))}"
        for what, found in (("missing", missing), ("unexpected", extra))
        if found
    ]
    return f" ({'; '.join(words)})" if words else ""
