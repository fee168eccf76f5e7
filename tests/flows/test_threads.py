"""Threads: turns that go on with what the one before came to, and races for the next one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from penstock import App, AsyncEngine, Client, Engine, Flow
from penstock.errors import Conflict, Invalid, NotFound, Permanent

app = App("threads")


@app.task
def say(flow: Flow, text: str = "", fail: bool = False) -> dict[str, object]:
    if fail:
        raise Permanent("asked", "it was asked to fail")
    return {"said": [text]}


@app.task
def call(flow: Flow) -> None:
    flow.subgraph("talk", {"text": "inner"})


app.graph("talk").chain(say).reducer("said", "append").reducer("n", "add")
app.graph("caller").chain(call)

ROUNDS, RACERS = 150, 4


def test_a_turn_goes_on_with_the_final_state_of_the_one_before(engine: Engine) -> None:
    first = engine.run("talk", {"text": "hello", "n": 1}, priority=3, baggage={"who": "me"})
    second = engine.continue_(first.key, {"text": "again", "n": 2, "said": ["more"]})
    outcome = engine.wait(second, timeout=20)
    assert outcome.state == {"text": "again", "n": 3, "said": ["hello", "more", "again"]}
    assert outcome.thread_key == first.key
    third = engine.continue_(second, {"text": None})
    outcome = engine.wait(third, timeout=20)
    assert outcome.state["said"][-2:] == ["again", ""]
    assert "text" not in outcome.state
    turns = engine.list(thread=third).items
    assert [turn.key for turn in turns] == [third, second, first.key]
    assert {turn.priority for turn in turns} == {3}


def test_a_thread_outlives_its_first_turn(engine: Engine) -> None:
    first = engine.run("talk", {"text": "hello"}).key
    second = engine.wait(engine.continue_(first, {"text": "again"}), timeout=20)
    engine.delete(first)
    assert [turn.key for turn in engine.list(thread=second.thread_key).items] == [second.key]
    third = engine.wait(engine.continue_(second.thread_key, {"text": "still"}), timeout=20)
    assert third.state["said"] == ["hello", "again", "still"]
    engine.delete(second.key)
    engine.delete(third.key)
    with pytest.raises(NotFound):
        engine.list(thread=first)


def test_a_turn_that_has_not_completed_is_not_continued(engine: Engine) -> None:
    failed = engine.run("talk", {"fail": True})
    with pytest.raises(Conflict, match="turn 1 of the thread, is failed"):
        engine.continue_(failed.key)
    joined = engine.run("talk", {"text": "new"}, thread=failed.key)
    assert joined.thread_key == failed.key
    assert engine.wait(engine.continue_(failed.key), timeout=20).state["said"] == ["new", "new"]


def test_a_fork_is_no_turn_of_its_thread(engine: Engine) -> None:
    first = engine.run("talk", {"text": "a"})
    fork = engine.fork(f"{first.key}/1", {"text": "forked"})
    assert engine.wait(fork, timeout=20).state["said"] == ["forked"]
    second = engine.continue_(fork, {"text": "b"})
    assert engine.wait(second, timeout=20).state["said"] == ["a", "b"]


def test_what_is_no_thread_is_refused(engine: Engine) -> None:
    outcome = engine.run("caller", {})
    child = engine.history(outcome.key)[0].children[0][0].key.rsplit("/", 1)[0]
    for refused in (lambda: engine.continue_(child), lambda: engine.create("talk", {}, thread=child)):
        with pytest.raises(Invalid, match="is a child and in no thread"):
            refused()
    with pytest.raises(NotFound):
        engine.continue_("1-aaaaaaaaaaaaaaaaaaaaaaaaaa")
    done = engine.run("talk", {})
    with pytest.raises(Invalid, match="`n`"):
        engine.continue_(done.key, {"n": "many"})
    with pytest.raises(Invalid, match="create_many takes no thread"):
        engine.create_many("talk", [{}], thread=done.key)


def test_of_many_who_continue_a_thread_one_wins_and_the_others_hear_who(engine: Engine) -> None:
    latest = engine.run("talk", {}).key
    barrier = Barrier(RACERS)

    def race(key: str) -> str | Conflict:
        barrier.wait()
        try:
            return engine.continue_(key)
        except Conflict as conflict:
            return conflict

    with ThreadPoolExecutor(RACERS) as pool:
        for _ in range(ROUNDS):
            answers = list(pool.map(race, [latest] * RACERS))
            won = [answer for answer in answers if isinstance(answer, str)]
            lost = [answer for answer in answers if isinstance(answer, Conflict)]
            # Who comes when the winner's turn is over continues that one.
            assert won
            assert all(any(key in conflict.message for key in won) for conflict in lost)
            assert {engine.wait(key, timeout=20).status for key in won} == {"completed"}
            latest = won[0]
    turns = []
    cursor = None
    while cursor is not None or not turns:
        page = engine.list(thread=latest, limit=1_000, cursor=cursor)
        turns += page.items
        cursor = page.cursor
    assert len(turns) > ROUNDS


def test_all_who_join_a_thread_get_a_turn_of_their_own(engine: Engine) -> None:
    first = engine.run("talk", {}).key
    with ThreadPoolExecutor(RACERS) as pool:
        joined = list(pool.map(lambda _: engine.create("talk", {}, thread=first), range(20)))
    assert len(set(joined)) == 20
    for key in joined:
        engine.wait(key, timeout=20)
    assert {flow.key for flow in engine.list(thread=first).items} == {first, *joined}


def test_a_client_continues_a_thread_and_sends_flows_back(database_url: str) -> None:
    with Engine(app, database_url) as engine, Client(None, database_url) as client:
        first = engine.run("talk", {"text": "a"})
        second = client.continue_(first.key, {"text": "b"})
        assert client.wait(second, timeout=20).state["said"] == ["a", "b"]
        client.restart(second, {"text": "c"})
        assert client.wait(second, timeout=20).state["said"] == ["a", "c"]
        client.restart_from(f"{second}/1", {"text": "d"})
        assert client.wait(second, timeout=20).state["said"] == ["a", "d"]
        fork = client.fork(f"{second}/1", {"text": "e"})
        assert client.wait(fork, timeout=20).state["said"] == ["a", "e"]
        failed = engine.run("talk", {"fail": True})
        assert client.recover(failed.key, {"fail": None}) == 1
        assert client.wait(failed.key, timeout=20).status == "completed"
        with pytest.raises(Conflict, match="is not a failed one"):
            client.retry_step(f"{failed.key}/1")


def test_an_async_engine_goes_back_and_on(database_url: str) -> None:
    async def live() -> None:
        async with AsyncEngine(app, database_url) as engine:
            first = await engine.run("talk", {"text": "a"})
            await engine.restart(first.key, {"text": "b"})
            assert (await engine.wait(first.key, timeout=20)).state["said"] == ["b"]
            await engine.restart_from(f"{first.key}/1", {"text": "c"})
            assert (await engine.wait(first.key, timeout=20)).state["said"] == ["c"]
            second = await engine.continue_(first.key, {"fail": True})
            assert (await engine.wait(second, timeout=20)).status == "failed"
            await engine.retry_step(f"{second}/1")
            assert (await engine.wait(second, timeout=20)).status == "failed"
            assert await engine.recover(second, {"fail": False}) == 1
            assert (await engine.wait(second, timeout=20)).status == "completed"
            fork = await engine.fork(f"{second}/1", {"text": "d"})
            assert (await engine.wait(fork, timeout=20)).state["said"][-1] == "d"

    asyncio.run(live())
