"""Who may declare others dead."""

from penstock.store.standing import Standing

LEASE = 15_000


def renewed(*instants: int) -> Standing:
    standing = Standing()
    for at in instants:
        standing.renewed(at, LEASE)
    return standing


def test_a_replica_that_has_never_renewed_declares_nobody() -> None:
    assert not Standing().may_declare(0)
    assert not Standing().may_declare(LEASE * 10)


def test_one_whole_lease_time_without_a_gap_is_enough() -> None:
    standing = renewed(0, 5_000, 10_000, 14_000)
    assert not standing.may_declare(14_999)
    assert standing.may_declare(15_000)


def test_a_gap_of_a_lease_begins_the_count_anew() -> None:
    standing = renewed(0, 10_000, 25_000)
    assert not standing.may_declare(26_000)
    standing.renewed(35_000, LEASE)
    assert not standing.may_declare(39_999)
    assert standing.may_declare(40_000)


def test_whose_own_lease_has_lapsed_declares_nobody() -> None:
    standing = renewed(0, 10_000)
    assert standing.may_declare(24_999)
    assert not standing.may_declare(25_000)


def test_who_was_declared_dead_begins_anew() -> None:
    standing = renewed(0, 10_000)
    standing.lost()
    assert not standing.may_declare(20_000)
    standing.renewed(20_000, LEASE)
    assert not standing.may_declare(34_999)


def test_a_lease_is_late_when_less_than_a_third_is_left() -> None:
    standing = renewed(0)
    assert not standing.is_late(10_000)
    assert standing.is_late(10_001)
    standing.lost()
    assert not standing.is_late(20_000)
