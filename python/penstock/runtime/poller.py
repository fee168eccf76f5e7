"""The thread that looks into the database for what others put there: mail, unowned flows, due timers."""

from collections.abc import Callable

from penstock.runtime.claims import Claims, Owner
from penstock.runtime.histories import Histories
from penstock.runtime.inbox import Inbox
from penstock.runtime.service import Service
from penstock.store import Store
from penstock.store.rows import Look

SHORTEST_WAIT_S = 0.005
LONGEST_WAIT_S = 0.25


class Poller(Service):
    """Looks often while there is something to find, and up to four times a second otherwise.

    `poke` shortens the wait: for an operation sent by this process, room that came free, a hint from a peer.

    Args:
        store: The shard.
        core: Asked for its room.
        inbox: Run when a flow of this engine has mail.
        claims: Run when there is something to take.
        on_work: Told after anything came into the core.
        tick: Called at every look, for what else is served in bulk (waits, cleaning).
        histories: Run after the mail came in.
    """

    def __init__(
        self,
        store: Store,
        core: Owner,
        inbox: Inbox,
        claims: Claims,
        on_work: Callable[[], None],
        tick: Callable[[], None] = lambda: None,
        histories: Histories | None = None,
    ) -> None:
        super().__init__("penstock-poller")
        self._store = store
        self._core = core
        self._inbox = inbox
        self._claims = claims
        self._on_work = on_work
        self._tick = tick
        self._histories = histories
        self._wait_s = LONGEST_WAIT_S
        # Set by any thread, cleared by the poller's:
        self._is_expecting = False

    def poke(self) -> None:
        """Look now. Any thread."""
        self.wake()

    def expect(self) -> None:
        """Look now, and at shorter intervals for a while: something is about to come. Any thread."""
        self._is_expecting = True
        self.wake()

    def run_once(self) -> float:
        """Look once and return the seconds until the next look."""
        found = self._claims.load_again()
        look = self._store.look()
        if look.has_own_mail:
            found += self._inbox.run_once()
        if self._can_claim(look):
            found += self._claims.run_once()
        if self._histories is not None:
            found += self._histories.run_once()
        if found:
            self._on_work()
        self._tick()
        return self._next_wait(look, is_busy=found > 0 or (look.has_ready and self._core.room() <= 0))

    def _can_claim(self, look: Look) -> bool:
        is_due = look.wake_at is not None and look.wake_at <= self._store.now()
        return look.has_unowned_mail or is_due or (look.has_ready and self._core.room() > 0)

    def _next_wait(self, look: Look, *, is_busy: bool) -> float:
        if self._is_expecting:
            self._is_expecting = False
            is_busy = True
        self._wait_s = SHORTEST_WAIT_S if is_busy else min(self._wait_s * 2, LONGEST_WAIT_S)
        if look.wake_at is None:
            return self._wait_s
        until_due = max(look.wake_at - self._store.now(), 0) / 1000
        return max(min(self._wait_s, until_due), SHORTEST_WAIT_S)
