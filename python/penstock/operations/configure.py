"""Changing an engine while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from penstock.errors import Invalid
from penstock.operations.limits import Limits, check_limits, set_limits
from penstock.operations.start import EngineOptions, Settings, check_least, check_priority, retain_ms
from penstock.options import Duration, budget_ms, check_names

if TYPE_CHECKING:
    from penstock.operations.context import Context
    from penstock.runtime.replica import Replica


class Changes(TypedDict, total=False):
    """What can change while an engine runs; see `EngineOptions`. Flows that exist keep what they were created with."""

    time_budget: Duration
    default_priority: int
    retain: Duration | None
    room: int
    limits: Limits | None


_FIXED = {
    "app": "its tasks are in the workers already",
    "url": "an engine belongs to one database",
    "workers": "workers are started with the engine",
    "threads": "workers are started with the engine",
    "name": "it stands in the registration",
    "lease": "others judge this engine by it",
    "loader": "flows may be under way with its graphs",
    "executor": "tasks may be running in it",
    "on_flow_stopped": "it may be called at this moment",
    "clock": "instants already written come from it",
}


def change(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with the changes, all of them checked.

    Raises:
        Invalid: One cannot change, is unknown, or has a bad value; nothing was changed.
    """
    check_names("configure() cannot change", changes, [*EngineOptions.__annotations__, "app", "url"])
    for name in changes:
        if name not in Changes.__annotations__:
            why = _FIXED.get(name, "it is read at the start")
            raise Invalid(
                f"{name} cannot change while an engine runs ({why}): shut it down and start one with another {name}; "
                f"what can change is {', '.join(Changes.__annotations__)}"
            )
    made: dict[str, Any] = {}
    for name, value in changes.items():
        if name == "time_budget":
            made["time_budget_ms"] = budget_ms(value)
        elif name == "retain":
            made["retain_ms"] = retain_ms(value)
        elif name == "limits":
            made[name] = check_limits(value)
        elif name == "default_priority":
            check_priority(value)
            made[name] = value
        else:
            check_least(value, name, 1)
            made[name] = value
    return replace(settings, **made)


def apply(settings: Settings, before: Settings, replica: Replica, context: Context) -> None:
    """Have a running engine go on with these settings."""
    if settings.limits != before.limits:
        set_limits(replica, settings.limits, before.limits)
    replica.core.configure(room=settings.room, time_budget_ms=settings.time_budget_ms)
    replica.retention.keep(settings.retain_ms)
    context.default_priority = settings.default_priority
    context.time_budget_ms = settings.time_budget_ms


def check_client_changes(changes: Mapping[str, Any]) -> None:
    """Refuse what a client does not have.

    Raises:
        Invalid: It is not `default_priority`, or has a bad value.
    """
    for name, value in changes.items():
        if name != "default_priority":
            raise Invalid(
                f"a client has no {name} to change: configure the engines; here it is default_priority"
            )
        check_priority(value)
