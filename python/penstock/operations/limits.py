"""The limits of resources, as an operator sets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from penstock.errors import Invalid
from penstock.options import MAX_KEY_BYTES, Limit, check_text

if TYPE_CHECKING:
    from penstock.runtime.replica import Replica

#: By resource: a limit on the whole, one on each partition, or both.
Limits: TypeAlias = Mapping[str, Limit | Sequence[Limit]]
#: The limits by resource: that on the whole, and that on each partition.
Checked: TypeAlias = dict[str, tuple[Limit | None, Limit | None]]

_NONE = (None, None, None)


def check_limits(limits: Limits | None) -> Checked:
    """Read the limits of an engine.

    Raises:
        Invalid: They are no limits, or two are on the same.
    """
    if limits is None:
        return {}
    if not isinstance(limits, Mapping):
        raise Invalid(f"limits is {limits!r}: give a mapping of resources to Limit(…)")
    checked: Checked = {}
    for resource, given in limits.items():
        check_text(resource, "the name of a resource", MAX_KEY_BYTES)
        several = [given] if isinstance(given, Limit) else given
        if not isinstance(several, Sequence) or not all(isinstance(limit, Limit) for limit in several):
            raise Invalid(f"the limit of {resource!r} is {given!r}: give a Limit(…), or a list of them")
        whole = [limit for limit in several if limit.partition is None]
        each = [limit for limit in several if limit.partition is not None]
        if len(whole) > 1 or len(each) > 1:
            raise Invalid(
                f"{resource!r} has {len(several)} limits: give at most one on the whole and one with a partition"
            )
        checked[resource] = (whole[0] if whole else None, each[0] if each else None)
    return checked


def set_limits(replica: Replica, limits: Checked, before: Checked | None = None) -> None:
    """Bound resources from now on; those that had limits before and have none now are free."""
    now = replica.store.now()
    for resource in {**(before or {}), **limits}:
        whole, each = limits.get(resource, (None, None))
        per = None if each is None else each.partition
        replica.core.set_limits(resource, _row(whole), _row(each), per, now)
    replica.loop.kick()


def _row(limit: Limit | None) -> tuple[int | None, float | None, float | None]:
    return _NONE if limit is None else (limit.max_concurrency, limit.rate, limit.burst)
