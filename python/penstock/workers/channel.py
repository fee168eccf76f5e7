"""One end of a worker's socket: bytes in by callback, bytes out from any thread, never waiting."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Callable

_READ_BYTES = 128 << 10


class Channel:
    """A non-blocking stream socket on an asyncio loop.

    `_lock` guards `_unsent`, which senders on any thread append to and the loop's thread writes out.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_data: Callable[[bytes], None],
        on_close: Callable[[], None],
    ) -> None:
        """Take over a connected socket.

        Args:
            loop: Its thread calls back.
            sock: Belongs to the channel from now on.
            on_data: Called with each piece, in order.
            on_close: Called once, after the last data, when the other side has closed; not after `close`.
        """
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._on_data = on_data
        self._on_close = on_close
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether either side has closed."""
        return self._is_closed

    @property
    def unsent_bytes(self) -> int:
        """How much the other side has not taken yet."""
        return len(self._unsent)

    def open(self) -> None:
        """Begin to read; on the loop's thread."""
        self._loop.add_reader(self._sock, self._read)

    def send(self, data: bytes) -> None:
        """Send from any thread: what the socket does not take now goes out later, in order."""
        with self._lock:
            if self._is_closed:
                return
            if self._unsent:
                self._unsent += data
                return
            sent = self._try_send(data)
            if sent == len(data):
                return
            self._unsent += memoryview(data)[sent:]
        self._loop.call_soon_threadsafe(self._watch)

    def pump(self) -> None:
        """Wait for the other side and take what it sent, on the loop's thread while its loop cannot."""
        if self._is_closed:
            return
        wanted = select.POLLIN | (select.POLLOUT if self._unsent else 0)
        poll = select.poll()
        poll.register(self._sock, wanted)
        for _, ready in poll.poll():
            if ready & select.POLLOUT:
                self._write()
            if ready & ~select.POLLOUT:
                self._read()

    def read_rest(self) -> None:
        """Read what stands in the socket now, when its process is known to be gone."""
        while not self._is_closed and self._read():
            pass

    def flush(self, timeout: float) -> None:
        """Send the rest, waiting for the other side; only for a loop that is about to end."""
        with self._lock:
            rest, self._unsent = bytes(self._unsent), bytearray()
            if not rest or self._is_closed:
                return
            self._sock.settimeout(timeout)
            try:
                self._sock.sendall(rest)
            except OSError:
                return

    def close(self) -> None:
        """Close this side; on the loop's thread. More calls change nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()

    def _read(self) -> bool:
        """Pass on one piece; False when there is none now."""
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if data:
            self._on_data(data)
            return True
        self.close()
        self._on_close()
        return False

    def _watch(self) -> None:
        if not self._is_closed:
            self._loop.add_writer(self._sock, self._write)

    def _write(self) -> None:
        with self._lock:
            sent = self._try_send(self._unsent)
            del self._unsent[:sent]
            is_done = not self._unsent
        if is_done:
            self._loop.remove_writer(self._sock)

    def _try_send(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            return len(data)  # the reader will see the end of the stream
