"""The lifecycle that every background loop has."""

import random
import threading

import pytest

from penstock.errors import EngineUnavailable
from penstock.runtime import service as module
from penstock.runtime.service import Service

DEADLINE_S = 10.0


class Counter(Service):
    """Counts its runs; what it should do next is in `answers`."""

    def __init__(self, *answers):
        super().__init__("counter")
        self.answers = list(answers)
        self.runs = 0
        self.finished = 0
        self.ran_out = threading.Event()

    def run_once(self):
        self.runs += 1
        answer = self.answers.pop(0) if self.answers else None
        if not self.answers:
            self.ran_out.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def finish(self):
        self.finished += 1


@pytest.fixture(autouse=True)
def short_rests(monkeypatch):
    monkeypatch.setattr(module, "FIRST_REST_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_REST_S", 0.004)


def test_stopping_without_a_start_and_twice_is_fine():
    service = Counter()
    assert service.stop()
    service.start()
    assert service.stop()
    assert service.stop()
    assert service.finished == 1


def test_starting_twice_starts_one_thread():
    service = Counter(0, 0, 0)
    service.start()
    service.start()
    assert service.ran_out.wait(DEADLINE_S)
    assert sum(thread.name == "counter" for thread in threading.enumerate()) == 1
    service.stop()


def test_a_service_runs_again_when_its_delay_is_over():
    service = Counter(0, 0.001, 0)
    service.start()
    assert service.ran_out.wait(DEADLINE_S)
    service.stop()
    assert service.runs >= 3


def test_a_wake_during_the_work_is_not_lost():
    class Waker(Counter):
        def run_once(self):
            if self.runs == 0:
                self.wake()
            return super().run_once()

    service = Waker(None, None)
    service.start()
    assert service.ran_out.wait(DEADLINE_S)
    service.stop()


def test_an_outage_and_a_defect_do_not_end_a_service(caplog):
    service = Counter(
        EngineUnavailable("The database is away."), EngineUnavailable("Still."), ValueError("a bug"), 0
    )
    service.start()
    assert service.ran_out.wait(DEADLINE_S)
    service.stop()
    assert "The database is away. Tried again" in caplog.text
    assert "a bug" in caplog.text


def test_a_service_that_does_not_end_in_time_says_so():
    release = threading.Event()

    class Slow(Counter):
        def run_once(self):
            super().run_once()
            release.wait(DEADLINE_S)

    service = Slow(None)
    service.start()
    assert service.ran_out.wait(DEADLINE_S)
    assert not service.stop(timeout=0.001)
    release.set()
    assert service.stop()


def test_any_order_of_starts_and_stops_ends_well():
    service = Counter()

    def toss():
        for _ in range(50):
            random.choice([service.start, service.stop, service.wake])()

    threads = [threading.Thread(target=toss) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert service.stop()
    assert not any(thread.name == "counter" for thread in threading.enumerate())
