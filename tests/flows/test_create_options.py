"""What may be said when a flow is created, from an engine and from a client beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from penstock import App, AsyncEngine, Client, Engine, Flow
from penstock.errors import Conflict, Invalid, NotFound
from penstock.operations.facade import Operations
from tests.support.waiting import eventually

app = App("options")


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt()}


@app.task
def look(flow: Flow) -> dict[str, Any]:
    return {"baggage": dict(flow.baggage)}


app.graph("double").chain(double)
app.graph("ask").chain(ask)
app.graph("look").chain(look)


@pytest.fixture(scope="module", params=["engine", "client"])
def ops(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Operations]:
    """The engine itself, and a client without an app on its database."""
    if request.param == "engine":
        yield engine
    else:
        with Client(None, engine._settings.url) as client:
            yield client


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A key that no other test of the module has."""
    return str(request.node.name)


def flows_of(ops: Operations, **filters: Any) -> list[str]:
    return [flow.key for flow in ops.list(**filters).items]


def test_the_same_key_and_input_give_the_same_flow_whatever_the_order_of_fields(
    ops: Operations, unique: str
) -> None:
    first = ops.create("double", {"n": 1, "m": {"a": 1, "b": 2}}, idempotency_key=unique)
    assert ops.create("double", {"m": {"b": 2, "a": 1}, "n": 1}, idempotency_key=unique) == first
    assert ops.run("double", {"n": 1, "m": {"a": 1, "b": 2}}, idempotency_key=unique).key == first


@pytest.mark.parametrize(
    ("workflow", "state"), [("double", {"n": 2}), ("double", {"n": "1"}), ("ask", {"n": 1})]
)
def test_the_same_key_for_another_workflow_or_input_is_a_conflict(
    ops: Operations, unique: str, workflow: str, state: dict[str, Any]
) -> None:
    ops.create("double", {"n": 1}, idempotency_key=unique)
    with pytest.raises(Conflict, match="was used for a flow with another workflow or input"):
        ops.create(workflow, state, idempotency_key=unique)
    with pytest.raises(Conflict):
        ops.run(workflow, state, idempotency_key=unique)


def test_of_n_creators_with_one_key_at_once_all_get_one_flow(ops: Operations, unique: str) -> None:
    start = threading.Barrier(8)

    def create(_: int) -> str:
        start.wait()
        return ops.create("double", {"n": 1}, idempotency_key=unique)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(create, range(8)))) == 1


def test_one_unfinished_flow_of_a_workflow_has_a_business_key(ops: Operations, unique: str) -> None:
    first = ops.create("ask", business_key=unique)
    with pytest.raises(Conflict, match=f"business key .* flow {first}; wait for it"):
        ops.create("ask", business_key=unique)
    with pytest.raises(Conflict, match=first):
        ops.run("ask", business_key=unique)
    assert ops.run("double", {"n": 1}, business_key=unique).status == "completed"
    assert ops.run("double", {"n": 1}, business_key=unique).status == "completed"
    assert ops.wait(first).status == "interrupted"
    ops.resume(first, 1)
    assert ops.wait(first).status == "completed"
    again = ops.create("ask", business_key=unique)
    assert again != first
    ops.cancel(again)
    ops.cancel(ops.create("ask", business_key=unique))


def test_of_n_creators_with_one_business_key_one_wins_and_the_others_are_told_who(
    ops: Operations, unique: str
) -> None:
    start = threading.Barrier(6)

    def create(_: int) -> str | Conflict:
        start.wait()
        try:
            return ops.create("ask", business_key=unique)
        except Conflict as conflict:
            return conflict

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(create, range(6)))
    (winner,) = [result for result in results if isinstance(result, str)]
    assert all(winner in str(result) for result in results)
    ops.cancel(winner)


def test_an_idempotent_creation_finds_its_flow_although_the_business_key_is_taken(
    ops: Operations, unique: str
) -> None:
    keys = {"idempotency_key": unique, "business_key": unique}
    first = ops.create("ask", **keys)
    assert ops.create("ask", **keys) == first
    ops.cancel(first)


def test_tags_priority_and_fairness_stand_in_the_list_and_baggage_reaches_the_tasks(
    ops: Operations, unique: str
) -> None:
    key = ops.create(
        "look",
        tags={"test": unique, "b": "2"},
        priority=7,
        fairness_key="ada",
        fairness_weight=2.5,
        time_budget=timedelta(seconds=9),
        baggage={"who": {"name": "ada"}},
    )
    assert ops.wait(key).state == {"baggage": {"who": {"name": "ada"}}}
    (flow,) = ops.list(tags={"test": unique}).items
    assert (flow.key, flow.priority, flow.fairness_key) == (key, 7, "ada")
    assert flow.tags == {"test": unique, "b": "2"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"idempotency_key": ""}, "idempotency_key is empty"),
        ({"idempotency_key": "x" * 256}, "idempotency_key is 256 bytes long"),
        ({"business_key": ""}, "business_key is empty"),
        ({"business_key": 7}, "business_key is 7"),
        ({"notify_on_stop": "a\0b"}, "notify_on_stop is 'a.x00b'"),
        ({"delete_on_completion": 1}, "delete_on_completion is 1"),
        ({"tags": {"a": 1}}, "tag 'a' is 1"),
        ({"priority": 2**31}, "priority is 2147483648"),
        ({"fairness_weight": float("inf")}, "fairness_weight is inf"),
        ({"time_budget": 0}, "time_budget is 0"),
        ({"baggage": [1]}, "baggage is"),
        ({"prority": 1}, "did you mean 'priority'"),
    ],
)
def test_a_bad_option_is_refused_and_nothing_is_stored(
    ops: Operations, options: dict[str, Any], sentence: str
) -> None:
    before = flows_of(ops, limit=1)
    for create in (
        lambda: ops.create("double", {"n": 1}, **options),
        lambda: ops.create_many("double", [{"n": 1}], **options),
        lambda: ops.run("double", {"n": 1}, **options),
    ):
        with pytest.raises(Invalid, match=sentence):
            create()
    assert flows_of(ops, limit=1) == before


def test_many_flows_take_no_key_of_their_own(ops: Operations) -> None:
    for name in ("idempotency_key", "business_key"):
        with pytest.raises(Invalid, match=f"create_many takes no {name}"):
            ops.create_many("double", [{"n": 1}], **{name: "k"})  # type: ignore[arg-type]


def test_one_bad_state_of_many_leaves_none(ops: Operations, unique: str) -> None:
    with pytest.raises(Invalid):
        ops.create_many("double", [{"n": 1}, {"n": object()}], tags={"test": unique})
    assert flows_of(ops, tags={"test": unique}) == []


def test_a_completed_flow_that_is_to_be_deleted_is_hidden_and_readable(ops: Operations, unique: str) -> None:
    outcome = ops.run("double", {"n": 4}, delete_on_completion=True, tags={"test": unique})
    assert outcome.state == {"n": 8}
    assert ops.snapshot(outcome.key) == ops.wait(outcome.key) == outcome
    assert flows_of(ops, tags={"test": unique}) == []
    kept = ops.create("ask", delete_on_completion=True, tags={"test": unique})
    ops.cancel(kept)
    assert flows_of(ops, tags={"test": unique}) == [kept]


def test_a_malformed_key_and_one_that_names_nothing_are_refused_alike(ops: Operations) -> None:
    key = ops.create("double", {"n": 1})
    strange = key[:-1] + ("a" if key[-1] != "a" else "b")
    for wrong in (strange, "nonsense", key.replace("1-", "9-", 1), key + "/1", ""):
        asked: list[Callable[[], Any]] = [
            lambda: ops.wait(wrong, timeout=5),  # noqa: B023
            lambda: ops.snapshot(wrong),  # noqa: B023
            lambda: ops.history(wrong),  # noqa: B023
            lambda: ops.cancel(wrong),  # noqa: B023
            lambda: ops.delete(wrong),  # noqa: B023
        ]
        for operation in asked:
            with pytest.raises(NotFound) as refusal:
                operation()
            assert (
                refusal.value.message == f"no flow has the key {wrong!r}; pass the key that create() returned"
            )


def test_ten_thousand_flows_are_created_at_once(engine: Engine) -> None:
    if engine._settings.workers:
        pytest.skip("the way through the database is the same")
    keys = engine.create_many("double", ({"n": n} for n in range(10_000)))  # type: ignore[arg-type]
    assert len(set(keys)) == 10_000
    assert engine.wait(keys[-1], timeout=60).state == {"n": 19_998}
    assert engine.wait(keys[0], timeout=60).state == {"n": 0}
    for key in keys[1::1_000]:
        assert engine.wait(key, timeout=60).status == "completed"


def test_the_options_of_an_async_engine_are_the_same(database_url: str) -> None:
    async def scenario() -> None:
        async with AsyncEngine(app, database_url) as engine:
            first = await engine.create("ask", business_key="b", idempotency_key="i")
            assert await engine.create("ask", business_key="b", idempotency_key="i") == first
            with pytest.raises(Conflict, match=first):
                await engine.create("ask", business_key="b")
            outcome = await engine.run("double", {"n": 1}, delete_on_completion=True)
            assert [flow.key for flow in (await engine.list()).items] == [first]
            assert (await engine.snapshot(outcome.key)).state == {"n": 2}

    asyncio.run(scenario())


class Hours:
    """A clock that is moved by hand, over the machine's."""

    def __init__(self) -> None:
        import time

        self.ahead_ms = 0
        self._time = time.time

    def __call__(self) -> int:
        return int(self._time() * 1000) + self.ahead_ms


def test_a_flow_deleted_on_completion_is_gone_after_a_minute(database_url: str) -> None:
    clock = Hours()
    with Engine(app, database_url, clock=clock) as engine:
        outcome = engine.run("double", {"n": 1}, delete_on_completion=True, idempotency_key="k")
        other = engine.run("double", {"n": 1})
        clock.ahead_ms += 59_000 - 10_000
        assert engine.snapshot(outcome.key) == outcome
        clock.ahead_ms += 20_000

        def is_gone() -> bool:
            try:
                engine.snapshot(outcome.key)
            except NotFound:
                return True
            return False

        eventually(is_gone, what="the flow to be removed")
        assert engine.snapshot(other.key) == other
        assert engine.create("double", {"n": 2}, idempotency_key="k") != outcome.key
