"""What a caller gets back."""

from __future__ import annotations

import dataclasses

import pytest

from penstock.outcome import FINISHED, STATUSES, STOPPED, ErrorInfo, Outcome, Page


def outcome(status: str) -> Outcome:
    return Outcome(key="0-abc", workflow="w", thread_key="0-abc", status=status, state={})


@pytest.mark.parametrize("status", ["interrupted", "completed", "failed", "cancelled"])
def test_wait_returns_at_a_stopped_outcome(status: str) -> None:
    assert outcome(status).is_stopped


@pytest.mark.parametrize("status", ["running", "paused"])
def test_a_flow_that_goes_on_is_not_stopped(status: str) -> None:
    assert not outcome(status).is_stopped


def test_an_interrupted_flow_is_stopped_but_not_finished() -> None:
    assert not outcome("interrupted").is_finished
    assert outcome("completed").is_finished


def test_what_is_finished_is_stopped_and_both_are_statuses() -> None:
    assert FINISHED < STOPPED < set(STATUSES)


def test_an_outcome_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome("running").status = "failed"  # type: ignore[misc] # the point of the test


def test_two_errors_with_the_same_parts_are_equal() -> None:
    assert ErrorInfo("poison", "three workers died") == ErrorInfo("poison", "three workers died")


def test_a_page_is_read_like_a_sequence() -> None:
    page = Page(("a", "b"), cursor="next")
    assert list(page) == ["a", "b"]
    assert len(page) == 2
