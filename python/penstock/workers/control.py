"""The socket between a pool and its zygote: small JSON messages, one a line, some with a descriptor."""

from __future__ import annotations

import json
import socket
from array import array
from collections import deque
from typing import Any

Message = dict[str, Any]

_READ_BYTES = 64 << 10
_DESCRIPTOR = array("i")
_ANCILLARY_BYTES = socket.CMSG_SPACE(16 * _DESCRIPTOR.itemsize)
_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Control:
    """One end. Sends block, since messages are tiny; reads never do."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected stream socket."""
        self.sock = sock
        self._rest = b""
        self._descriptors: deque[int] = deque()

    def send(self, message: Message, *descriptors: int) -> bool:
        """Send a message; False when the other side is gone."""
        line = json.dumps(message).encode() + b"\n"
        try:
            if descriptors:
                sent = socket.send_fds(self.sock, [line], list(descriptors))
                line = line[sent:]
            self.sock.sendall(line)
        except OSError:
            return False
        return True

    def receive(self) -> list[Message] | None:
        """Give the messages that have come; None when the other side is gone."""
        try:
            # Not socket.recv_fds, which ignores its flags in Python 3.11 and would block.
            data, ancillary, _, _ = self.sock.recvmsg(_READ_BYTES, _ANCILLARY_BYTES, _FLAGS)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        if not data:
            return None
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(payload) - len(payload) % _DESCRIPTOR.itemsize
                self._descriptors.extend(array("i", payload[:whole]))
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def take_descriptor(self) -> int:
        """Give the descriptor of the oldest message that had one and was not asked for it."""
        return self._descriptors.popleft()

    def detach(self) -> list[int]:
        """Give up all descriptors and name them: what a forked child must close."""
        return [self.sock.detach(), *self._descriptors]

    def close(self) -> None:
        """Close this side."""
        self.sock.close()
