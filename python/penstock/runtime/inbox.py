"""Brings messages from the database to the flows that this engine owns."""

from collections.abc import Sequence
from typing import Protocol

from penstock.store import Store
from penstock.store.rows import Mail

Message = tuple[int, str, str]


class Addressee(Protocol):
    """What the inbox asks of the core."""

    def deliver(self, flow_id: bytes, seen: int, messages: list[Message], now_ms: int) -> None:
        """Take messages, of which some may have come before; *seen* counts all that were ever sent."""


class Inbox:
    """Reads unread mail and delivers it. One thread, the poller's."""

    def __init__(self, store: Store, core: Addressee) -> None:
        self._store = store
        self._core = core
        # What of the unread mail the core has been given; a flow that has none left drops out.
        self._delivered: dict[bytes, int] = {}

    def run_once(self) -> int:
        """Deliver what has come, and return how many flows had something."""
        mails = self._store.read_mail(self._delivered)
        fresh = [mail for mail in mails if mail.seen > self._delivered.get(mail.flow_id, 0)]
        self._delivered = {mail.flow_id: mail.seen for mail in mails}
        self._deliver(fresh)
        return len(fresh)

    def open(self, flow_ids: Sequence[bytes]) -> None:
        """Deliver all unread mail of flows that have just been loaded, an empty delivery where there is none.

        Until then the core takes a flow with mail for one that must not be released or stopped.
        """
        mails = self._store.mail_of(flow_ids)
        self._deliver(mails)
        self._delivered |= {mail.flow_id: mail.seen for mail in mails if mail.messages}

    def _deliver(self, mails: Sequence[Mail]) -> None:
        now = self._store.now()
        for mail in mails:
            self._core.deliver(mail.flow_id, mail.seen, mail.messages, now)
