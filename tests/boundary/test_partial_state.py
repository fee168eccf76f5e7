"""What a step's frame carries of the state, and how the worker gets the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock import Graph
from penstock._core import WorkerCodec
from tests.boundary.driver import NOW, WORKER, CoreDriver

BIG = "x" * 1_000_000
WIDE = Graph("wide").for_each("source", "work", over="items").edge("work", "join").fan_in("join")
ONE = Graph("one").node("work")


def driver_of(fields: list[str] | None, takes_flow: bool, graph: Graph = ONE) -> CoreDriver:
    driver = CoreDriver(graph)
    driver.core.set_tasks([("work", False, fields, takes_flow)])
    return driver


def buffer_of(driver: CoreDriver) -> bytes:
    ((worker, data),) = driver.core.frames(NOW)
    assert worker == WORKER
    return data


def fetch(driver: CoreDriver, dispatch: int, worker: int = WORKER, names: str = "") -> tuple[Any, ...]:
    driver.core.receive(worker, WorkerCodec.fetch(dispatch, names), NOW)
    ((to, data),) = driver.core.outgoing()
    assert to == worker
    (message,) = WorkerCodec().feed(data)
    return message


@pytest.mark.parametrize(("fields", "takes_flow"), [(["n"], False), (["n"], True), ([], True)])
def test_a_big_field_that_is_not_named_does_not_travel(fields: list[str], takes_flow: bool) -> None:
    driver = driver_of(fields, takes_flow)
    driver.create("one", n=1, big=BIG)
    driver.commit()
    data = buffer_of(driver)
    assert len(data) < 1_000
    _, step = WorkerCodec().feed(data)
    assert (json.loads(step[12]), step[15]) == ({"n": 1}, '["big"]')

    assert json.loads(fetch(driver, step[1])[2]) == {"n": 1, "big": BIG}


@pytest.mark.parametrize(
    ("fields", "takes_flow"),
    [(None, True), (["big"], True), (["big", "n"], False), (["n", "big", "no"], False)],
)
def test_what_is_whole_is_sent_as_it_is(fields: list[str] | None, takes_flow: bool) -> None:
    driver = driver_of(fields, takes_flow)
    driver.create("one", n=1, big=BIG)
    driver.commit()
    _, step = WorkerCodec().feed(buffer_of(driver))
    assert (json.loads(step[12]), step[15]) == ({"n": 1, "big": BIG}, "")


def test_a_task_of_an_executor_is_sent_what_is_small() -> None:
    driver = CoreDriver(ONE)
    driver.create("one", big=BIG, n=1)
    driver.commit()
    (step,) = driver.steps()
    assert (json.loads(step[12]), step[15]) == ({"n": 1}, '["big"]')


def test_a_named_field_that_is_not_there_is_null() -> None:
    driver = driver_of(["n", "factor"], False)
    driver.create("one", n=1, other=2)
    driver.commit()
    (step,) = driver.steps()
    assert (json.loads(step[12]), step[15]) == ({"n": 1, "factor": None}, '["other"]')


def test_branches_of_a_for_each_are_sent_their_element_without_the_array() -> None:
    driver = driver_of(["item", "item_index"], False, WIDE)
    driver.create("wide", items=[*range(20_000)])
    driver.commit()
    (source,) = driver.steps()
    driver.answer(source[1], WorkerCodec.DONE)
    driver.commit()
    (step,) = driver.steps()
    assert (json.loads(step[12]), step[15]) == ({"item": 0, "item_index": 0}, '["item_count","items"]')

    whole = json.loads(fetch(driver, step[1])[2])
    assert whole == {"item": 0, "item_index": 0, "item_count": 20_000, "items": [*range(20_000)]}


def test_fields_are_fetched_by_name() -> None:
    driver = driver_of([], False)
    driver.create("one", n=1, big=BIG, other=2)
    driver.commit()
    (step,) = driver.steps()
    assert json.loads(fetch(driver, step[1], names='["other","nowhere","n"]')[2]) == {"other": 2, "n": 1}


def test_a_dispatch_that_is_not_current_has_no_state() -> None:
    driver = driver_of([], True)
    driver.create("one", big=BIG)
    driver.commit()
    (step,) = driver.steps()
    driver.core.worker_ready(WORKER + 1)
    assert fetch(driver, step[1], WORKER + 1) == (WorkerCodec.STATE, step[1], "")
    driver.answer(step[1], WorkerCodec.DONE)
    assert fetch(driver, step[1]) == (WorkerCodec.STATE, step[1], "")


def test_a_step_whose_worker_died_while_it_fetched_runs_again() -> None:
    driver = driver_of([], True)
    driver.create("one", big=BIG)
    driver.commit()
    (first,) = driver.steps()
    driver.core.receive(WORKER, WorkerCodec.fetch(first[1], ""), NOW)
    driver.core.worker_gone(WORKER, "killed", NOW)
    driver.commit()
    assert driver.core.outgoing() == []

    driver.core.worker_ready(WORKER + 1)
    ((_, data),) = driver.core.frames(NOW)
    (_, again) = WorkerCodec().feed(data)
    assert again[1] != first[1]
    assert json.loads(fetch(driver, again[1], WORKER + 1)[2]) == {"big": BIG}
