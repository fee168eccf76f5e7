"""What comes into the core from the database: flows, mail, due timers."""

import pytest

from penstock.runtime.claims import Claims
from penstock.runtime.inbox import Inbox
from penstock.runtime.poller import LONGEST_WAIT_S, SHORTEST_WAIT_S, Poller
from penstock.runtime.writer import Writer
from tests.store.fakes import T0, created, event, fid, merge, message, verdict

GOOD, FOREIGN = b"g" * 32, b"f" * 32


class FakeCore:
    """Takes flows and mail in and remembers them."""

    def __init__(self):
        self.capacity = 10
        self.flows = {}
        self.mail = []
        self.broken = []
        self.away = []

    def knows_graph(self, graph_id):
        return True

    def room(self):
        return self.capacity - len(self.flows)

    def load(self, rows, now_ms):
        self.flows.update((row.flow_id, row) for row in rows)
        return [(row.flow_id, "a gap") for row in rows if row.flow_id in self.broken]

    def deliver(self, flow_id, seen, messages, now_ms):
        if flow_id in self.away:
            return False
        self.mail.append((flow_id, seen, [body for _, _, body in messages]))
        return True

    def take_batch(self):
        return None


class House:
    """All the services over one store, run by hand."""

    def __init__(self, store):
        self.store = store
        self.core = FakeCore()
        self.fenced = []
        self.works = 0
        self.admitted = []
        self.writer = Writer(store, self.core, lambda report: None, self.fenced.append)
        self.inbox = Inbox(store, self.core)
        self.claims = Claims(store, self.core, self.writer, self.inbox, self.admit, self.fenced.append)
        self.poller = Poller(store, self.core, self.inbox, self.claims, self.on_work)

    def admit(self, graph_id, definition):
        self.admitted.append((graph_id, definition))
        return graph_id == GOOD

    def on_work(self):
        self.works += 1


@pytest.fixture
def house(store):
    store.publish(GOOD, "w", '{"good":1}')
    house = House(store)
    house.writer.start()
    yield house
    house.poller.stop()
    house.writer.stop()


def test_ready_flows_come_in_up_to_the_room(house, store):
    house.core.capacity = 2
    store.commit(merge(*(created(fid(n)) for n in (1, 2, 3)), event(fid(1), 1)))
    house.poller.run_once()
    assert list(house.core.flows) == [fid(1), fid(2)]
    assert len(house.core.flows[fid(1)].journal) == 1
    assert house.works == 1


def test_a_graph_is_admitted_once(house, store):
    store.commit(merge(created(fid(1)), created(fid(2))))
    house.poller.run_once()
    store.commit(created(fid(3)))
    house.poller.run_once()
    assert len(house.core.flows) == 3
    assert house.admitted == [(GOOD, '{"good":1}')]


@pytest.mark.parametrize("is_published", [True, False])
def test_flows_of_a_graph_without_all_its_tasks_here_wait_for_another_engine(
    house, store, rows, is_published
):
    if is_published:
        store.publish(FOREIGN, "other", "{}")
    store.commit(merge(created(fid(1), graph_id=FOREIGN), created(fid(2))))
    for _ in range(3):
        house.poller.run_once()
    assert list(house.core.flows) == [fid(2)]
    assert rows("SELECT owner, claims FROM penstock_live WHERE flow_id = ?", fid(1)) == [(None, 1)]


def test_a_loaded_flow_gets_its_unread_mail(house, store):
    store.commit(merge(created(fid(1)), created(fid(2)), message(fid(1), "hello")))
    house.poller.run_once()
    assert house.core.mail == [(fid(1), 1, ["hello"])]


def test_a_loaded_flow_with_read_mail_only_is_told_the_count(house, store):
    store.commit(merge(created(fid(1)), message(fid(1))))
    store.commit(verdict(fid(1), 1))
    house.poller.run_once()
    assert house.core.mail == [(fid(1), 1, [])]


def test_mail_of_an_owned_flow_is_delivered_once(house, store):
    store.commit(created(fid(1), store.replica_id))
    store.commit(message(fid(1), "a"))
    house.poller.run_once()
    house.poller.run_once()
    store.commit(message(fid(1), "b"))
    house.poller.run_once()
    assert house.core.mail == [(fid(1), 1, ["a"]), (fid(1), 2, ["b"])]
    store.commit(merge(verdict(fid(1), 1), verdict(fid(1), 2)))
    house.poller.run_once()
    store.commit(message(fid(1), "c"))
    house.poller.run_once()
    assert house.core.mail[2:] == [(fid(1), 3, ["c"])]


def test_mail_that_the_core_could_not_take_is_offered_again(house, store):
    store.commit(merge(created(fid(1), store.replica_id), message(fid(1), "a")))
    house.core.away = [fid(1)]
    house.poller.run_once()
    house.core.away = []
    house.poller.run_once()
    assert house.core.mail == [(fid(1), 1, ["a"])]


def test_a_flow_that_was_rolled_back_is_read_again_with_all_its_mail(house, store):
    store.commit(merge(created(fid(1), store.replica_id), event(fid(1), 1), message(fid(1), "a")))
    house.poller.run_once()
    house.claims.reload([fid(1)])
    house.poller.run_once()
    assert len(house.core.flows[fid(1)].journal) == 1
    assert house.core.mail == [(fid(1), 1, ["a"])] * 2


def test_without_room_a_flow_with_mail_comes_in_all_the_same(house, store):
    house.core.capacity = 0
    store.commit(merge(created(fid(1)), created(fid(2)), message(fid(2))))
    house.poller.run_once()
    assert list(house.core.flows) == [fid(2)]


def test_a_flow_comes_in_when_its_timer_is_due(house, store, clock):
    store.commit(created(fid(1), ready_at=None, wake_at=T0 + 100))
    assert house.poller.run_once() == pytest.approx(0.1)
    assert house.core.flows == {}
    clock.ms += 100
    house.poller.run_once()
    assert list(house.core.flows) == [fid(1)]


def test_looks_are_frequent_under_load_and_rare_at_rest(house, store):
    store.commit(created(fid(1)))
    waits = [house.poller.run_once() for _ in range(12)]
    assert waits[0] == SHORTEST_WAIT_S
    assert waits[-1] == LONGEST_WAIT_S
    assert waits == sorted(waits)


def test_a_backlog_without_room_keeps_the_looks_frequent(house, store):
    house.core.capacity = 0
    store.commit(created(fid(1)))
    assert [house.poller.run_once() for _ in range(5)][-1] == SHORTEST_WAIT_S


def test_a_flow_that_cannot_be_replayed_stays_owned(house, store, rows, caplog):
    house.core.broken = [fid(1)]
    store.commit(merge(created(fid(1)), message(fid(1))))
    house.poller.run_once()
    assert rows("SELECT owner FROM penstock_live") == [(store.replica_id,)]
    assert house.core.mail == []
    assert "cannot be replayed and stays as it is: a gap" in caplog.text


def test_a_fenced_replica_is_told_so(house, store, execute):
    store.commit(created(fid(1)))
    execute("UPDATE penstock_replicas SET dead_at = 1")
    house.poller.run_once()
    assert [answer.replica_id for answer in house.fenced] == [store.replica_id]


def test_the_poller_runs_by_itself_when_it_is_poked(house, store):
    import threading

    came = threading.Event()
    house.poller._on_work = came.set
    house.poller.start()
    store_of_another = store
    house.writer.run(lambda: store_of_another.commit(created(fid(1)))).result(10)
    house.poller.poke()
    assert came.wait(10)
    assert list(house.core.flows) == [fid(1)]
