"""The worker's codec against a second implementation of the frames."""

from __future__ import annotations

import json
import random

import pytest

from penstock._core import WorkerCodec
from penstock.errors import CorruptJournal, Invalid
from tests.workers import frames
from tests.workers.frames import ResultReader, Step


def stream() -> bytes:
    return (
        frames.graph(3, {"log": "append"})
        + frames.steps(
            Step(1, "a", {"x": "ö\x00"}),
            Step(2**64 - 1, "b", calls=[], changes="{}", attempt=4, left_out="*"),
        )
        + frames.state(8, {"y": 1})
        + frames.state(9, None)
        + frames.cancel(9)
        + frames.STOP
    )


def test_every_frame_becomes_a_tuple() -> None:
    graph, first, second, state, void, cancel, stop = WorkerCodec().feed(stream())
    assert graph == (WorkerCodec.GRAPH, 3, '{"log": "append"}')
    assert first[:9] == (WorkerCodec.STEP, 1, 0, 0, 7, 1_000, 2_000, 0, "0-flow")
    assert first[9:12] == ("node", "a", "")
    assert json.loads(first[12]) == {"x": "ö\x00"}
    assert (second[1], second[3], second[13], second[14]) == (2**64 - 1, 4, "{}", "[]")
    assert (first[15], second[15]) == ("", "*")
    assert state == (WorkerCodec.STATE, 8, '{"y": 1}')
    assert void == (WorkerCodec.STATE, 9, "")
    assert cancel == (WorkerCodec.CANCEL, 9)
    assert stop == (WorkerCodec.STOP,)


@pytest.mark.parametrize("seed", range(20))
def test_the_pieces_in_which_a_stream_comes_do_not_matter(seed: int) -> None:
    chance = random.Random(seed)
    data, codec, found = stream() * 3, WorkerCodec(), []
    while data:
        size = chance.choice([1, 2, 3, 7, 50, 1000])
        found += codec.feed(data[:size])
        data = data[size:]
    assert found == WorkerCodec().feed(stream() * 3)


def test_results_are_read_as_they_were_written() -> None:
    items = [(n, n % 4, n * 1000, f'{{"set":{{"n":{n}}}}}', "") for n in range(500)]
    reader = ResultReader()
    results = reader.feed(WorkerCodec.results(items))
    assert [(r.dispatch, r.outcome, r.ran_us, r.changes_text, r.meta_text) for r in results] == items
    assert reader.frames == 1


def test_a_hello_is_a_frame_of_its_own() -> None:
    reader = ResultReader()
    assert reader.feed(WorkerCodec.hello('{"pid":7}')) == []
    assert reader.hello == {"pid": 7}


def test_a_fetch_is_a_frame_of_its_own() -> None:
    reader = ResultReader()
    assert reader.feed(WorkerCodec.fetch(7, '["ö"]') + WorkerCodec.results([(7, 0, 1, "", "")]))
    assert reader.feed(WorkerCodec.fetch(8, "")) == []
    assert (reader.fetches, reader.names) == ([7, 8], [["ö"], None])


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\1\0\0\0\x63", b"\2\0\0\0\1\0", WorkerCodec.hello("{}")]
)
def test_bytes_that_no_engine_sends_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptJournal):
        WorkerCodec().feed(data)


def test_an_outcome_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="9 is no outcome"):
        WorkerCodec.results([(1, 9, 0, "", "")])
