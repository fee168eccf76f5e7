"""The names of the package itself."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import pytest

import penstock
import penstock.errors
import penstock.outcome


def public_names(module: ModuleType) -> list[str]:
    """What a reader of the module may use: defined there, without an underscore."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def test_every_public_name_can_be_had() -> None:
    for name in penstock.__all__:
        assert getattr(penstock, name) is not None


def test_the_list_of_public_names_is_complete_and_sorted() -> None:
    eager = {
        name
        for name, value in vars(penstock).items()
        if getattr(value, "__module__", "").startswith("penstock.") and not name.startswith("_")
    }
    assert eager <= set(penstock.__all__)
    assert penstock.__all__ == sorted(penstock.__all__, key=lambda name: (not name.isupper(), name))
    assert set(penstock.__all__) <= set(dir(penstock))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'penstock' has no attribute 'Enigne'"):
        _ = penstock.Enigne


@pytest.mark.parametrize("name", [name for name in penstock.__all__ if name != "END"])
def test_every_public_name_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(penstock, name))


@pytest.mark.parametrize("module", ["penstock.errors", "penstock.outcome", "penstock.options"])
def test_every_class_and_function_of_a_public_module_is_documented(module: str) -> None:
    loaded = importlib.import_module(module)
    bare = [name for name in public_names(loaded) if not inspect.getdoc(getattr(loaded, name))]
    assert not bare


def test_every_refusal_has_a_stable_code() -> None:
    codes = {
        "NotFound": "not_found",
        "Conflict": "conflict",
        "Invalid": "invalid",
        "EngineUnavailable": "unavailable",
        "WaitTimeout": "timeout",
    }
    for name, code in codes.items():
        assert getattr(penstock.errors, name)("why").code == code
