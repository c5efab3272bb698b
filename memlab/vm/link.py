"""The line to a guest agent: JSON lines over a stream socket, never blocking but on request."""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque
from typing import Any, Final

from memlab.errors import GuestError
from memlab.guest.wire import MAX_LINE

_CHUNK: Final = 65536
_SEND_SECONDS: Final = 5.0
"""How long a command may wait for room in the socket: an agent that reads nothing is dead."""


class SocketLink:
    """A `GuestLink` over a connected stream socket, which it owns.

    Answers are kept by number until somebody asks for them, events in the order they came.
    """

    def __init__(self, vm: str, stream: socket.socket) -> None:
        stream.setblocking(False)
        self._vm = vm
        self._socket = stream
        self._number = 0
        self._pieces: list[bytes] = []
        self._pending = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked: dict[int, str] = {}
        self._events: deque[dict[str, Any]] = deque()
        self._ended = False

    def fileno(self) -> int:
        """The socket's descriptor, -1 when closed."""
        return self._socket.fileno()

    @property
    def ended(self) -> bool:
        """Whether the agent has closed its end."""
        return self._ended

    def send(self, cmd: str, /, **fields: Any) -> int:
        """Send a command without waiting; the number its answer will carry.

        That the agent has ended is told by `answer`, not here.
        """
        self._number += 1
        line = json.dumps({"id": self._number, "cmd": cmd, **fields}, separators=(",", ":"))
        if len(line) >= MAX_LINE:
            raise GuestError(self._vm, f"the command {cmd} is longer than {MAX_LINE} bytes")
        self._asked[self._number] = cmd
        self._write(cmd, line.encode() + b"\n")
        return self._number

    def answer(self, number: int, *, timeout: float) -> dict[str, Any]:
        """The answer to command `number`; GuestError if refused, too late, or the agent ended."""
        deadline = time.monotonic() + timeout
        cmd = self._asked.get(number, "?")
        while number not in self._answers:
            left = deadline - time.monotonic()
            if self._ended:
                raise GuestError(self._vm, f"the agent ended before it answered {cmd}")
            if left <= 0:
                raise GuestError(self._vm, f"no answer to {cmd} within {timeout:g} s")
            self._wait(select.POLLIN, left)
            self._read()
        self._asked.pop(number, None)
        found = self._answers.pop(number)
        if not found.get("ok"):
            why = found.get("error", "without a reason")
            raise GuestError(self._vm, f"the agent refused {cmd}: {why}")
        return found

    def call(self, cmd: str, /, *, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        """Send and wait."""
        return self.answer(self.send(cmd, **fields), timeout=timeout)

    def forget(self, number: int) -> None:
        """Do not keep the answer to `number`: nobody will ask."""
        self._asked.pop(number, None)
        self._answers.pop(number, None)

    def events(self) -> list[dict[str, Any]]:
        """What the agent has said unasked since the last call. Never blocks."""
        self._read()
        said = list(self._events)
        self._events.clear()
        return said

    def close(self) -> None:
        """Hang up: the agent ends itself. Harmless twice."""
        self._socket.close()
        self._ended = True

    def _wait(self, event: int, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        poll.poll(seconds * 1000)

    def _write(self, cmd: str, line: bytes) -> None:
        deadline = time.monotonic() + _SEND_SECONDS
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[self._socket.send(rest, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise GuestError(self._vm, f"the agent reads nothing: {cmd}") from None
                self._wait(select.POLLOUT, deadline - time.monotonic())
            except OSError:
                return  # it has ended; what it said before is still to be read, then its end

    def _read(self) -> None:
        """Take in what has arrived, without waiting."""
        while not self._ended:
            try:
                piece = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                piece = b""  # reset: the same as its end
            if not piece:
                self._ended = True
                return
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        """Cut lines. A piece without a newline is only kept, so a long line is joined once."""
        end = piece.rfind(b"\n")
        if end < 0:
            self._keep(piece)
            return
        whole = b"".join((*self._pieces, piece[:end]))
        self._pieces, self._pending = [], 0
        self._keep(piece[end + 1 :])
        for line in whole.split(b"\n"):
            self._sort(line)

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._pending += len(piece)
        if self._pending > MAX_LINE:
            raise GuestError(self._vm, f"the agent sent a line longer than {MAX_LINE} bytes")

    def _sort(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise GuestError(
                self._vm, "the agent sent a line that is no JSON object", last=_show(line)
            )
        if "event" in said:
            self._events.append(said)
        elif (number := said.get("id")) in self._asked:
            self._answers[number] = said


def _show(line: bytes) -> str:
    return line[:200].decode(errors="replace")
