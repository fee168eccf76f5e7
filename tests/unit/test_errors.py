"""Every exception can be made from one message, keeps its code, and survives a pickle."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest

from penstock import errors
from penstock.errors import PenstockError, Permanent, RateLimited, Unavailable, WaitTimeout

ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PenstockError) and not kind.__name__.startswith("_")
]


@pytest.mark.parametrize("kind", ALL)
def test_one_message_is_enough(kind: type[PenstockError]) -> None:
    error = kind("text")
    assert error.message == str(error) == "text"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, copy.message) == (kind, error.code, "text")


def test_codes_are_those_of_the_contract() -> None:
    codes = {kind.__name__: kind.code for kind in ALL}
    assert codes["NotFound"] == "not_found"
    assert codes["Conflict"] == "conflict"
    assert codes["Invalid"] == "invalid"
    assert codes["EngineUnavailable"] == codes["Unavailable"] == "unavailable"
    assert codes["WaitTimeout"] == "timeout"
    assert codes["CorruptJournal"] == "corrupt"


def test_a_classified_error_carries_code_message_and_data() -> None:
    error = Permanent("no_card", "the card is gone", data={"card": 7})
    assert (error.code, error.message, error.data) == ("no_card", "the card is gone", {"card": 7})


def test_what_a_downstream_said_is_kept() -> None:
    assert RateLimited(timedelta(seconds=2)).retry_after == timedelta(seconds=2)
    assert RateLimited().retry_after is None
    cause = ConnectionError("refused")
    assert (Unavailable(cause).cause, Unavailable(cause).message) == (cause, "refused")


def test_a_wait_that_timed_out_names_its_flow() -> None:
    assert WaitTimeout("late", flow_key="0-x").flow_key == "0-x"
