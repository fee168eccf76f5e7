"""Brings messages from the database to the flows that this engine owns."""

from collections.abc import Sequence
from typing import Protocol

from penstock.store import Store
from penstock.store.rows import Mail

Message = tuple[int, str, str]


class Addressee(Protocol):
    """What the inbox asks of the core."""

    def deliver(self, flow_id: bytes, seen: int, messages: list[Message], now_ms: int) -> bool:
        """Take messages, of which some may have come before; *seen* counts all that were ever sent.

        False: the flow is not here, or is about to be loaded again and then gets all of its mail.
        """


class Inbox:
    """Reads unread mail and delivers it. One thread, the poller's."""

    def __init__(self, store: Store, core: Addressee) -> None:
        self._store = store
        self._core = core
        # What of the unread mail the core has been given; a flow that has none left drops out.
        self._delivered: dict[bytes, int] = {}

    def run_once(self) -> int:
        """Deliver what has come, and return how many flows took something."""
        mails = self._store.read_mail(self._delivered)
        fresh = [mail for mail in mails if mail.seen > self._delivered.get(mail.flow_id, 0)]
        taken = self._deliver(fresh)
        known = self._delivered | taken
        self._delivered = {mail.flow_id: known[mail.flow_id] for mail in mails if mail.flow_id in known}
        return len(taken)

    def forget(self) -> None:
        """Take no flow for ours any more: this replica registers anew."""
        self._delivered = {}

    def open(self, flow_ids: Sequence[bytes]) -> None:
        """Deliver all unread mail of flows that have just been loaded, an empty delivery where there is none.

        Until then the core takes a flow with mail for one that must not be released or stopped.
        """
        mails = self._store.mail_of(flow_ids)
        taken = self._deliver(mails)
        # Only what is unread comes up again and has to be remembered.
        self._delivered |= {
            mail.flow_id: mail.seen for mail in mails if mail.messages and mail.flow_id in taken
        }

    def _deliver(self, mails: Sequence[Mail]) -> dict[bytes, int]:
        """Deliver, and return what was taken: flows with the count they have seen now."""
        now = self._store.now()
        return {
            mail.flow_id: mail.seen
            for mail in mails
            if self._core.deliver(mail.flow_id, mail.seen, mail.messages, now)
        }
