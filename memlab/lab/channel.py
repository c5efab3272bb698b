"""The control socket of a running lab: one JSON object asked, one answered.

`/run/memlab/control`, mode 0600, in a folder of mode 0700; the peer must be root or the user of
the run (SO_PEERCRED). A question is at most 64 KiB and must be complete within five seconds. Nobody
is waited for meanwhile: what has come of a question is kept until the rest comes, because a lab has
other things to do.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from memlab.errors import HostError, MemlabError

NAME: Final = "control"
MAX_QUESTION: Final = 65536
MAX_ANSWER: Final = 16 * 1024 * 1024
PATIENCE: Final = 5.0
MOST_PEERS: Final = 64
"""Connections that may be in the middle of a question; the oldest makes room for a new one."""
_SENDING: Final = 0.2
"""How long an answer may wait for a peer that does not read, seconds."""
_CREDENTIALS: Final = struct.Struct("3i")

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(slots=True)
class _Peer:
    """A connection that has not asked its whole question yet."""

    socket: socket.socket
    deadline: float
    heard: bytearray


class Channel:
    """The listening side. `serve` never blocks; poll on `filenos` to know when to call it."""

    def __init__(self, path: Path, *, uid: int) -> None:
        self.path = path
        self._uid = uid
        self._peers: list[_Peer] = []
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(old)
        self._socket.listen(16)
        self._socket.setblocking(False)

    def filenos(self) -> list[int]:
        """Readable when somebody asks, or goes on asking."""
        return [self._socket.fileno(), *(peer.socket.fileno() for peer in self._peers)]

    def serve(self, handler: Handler) -> None:
        """Take in what has come, and answer the questions that are complete."""
        self._accept()
        for peer in list(self._peers):
            question = self._hear(peer)
            if question is None:
                continue
            self._peers.remove(peer)
            with peer.socket:
                if question:
                    self._reply(peer.socket, question, handler)

    def _accept(self) -> None:
        while True:
            try:
                fresh, _ = self._socket.accept()
            except BlockingIOError:
                return
            fresh.setblocking(False)
            if len(self._peers) == MOST_PEERS:
                self._peers.pop(0).socket.close()
            self._peers.append(_Peer(fresh, time.monotonic() + PATIENCE, bytearray()))

    def _hear(self, peer: _Peer) -> bytes | None:
        """The whole question; None if more is to come, empty if the peer is given up."""
        try:
            piece = peer.socket.recv(MAX_QUESTION + 1)
        except BlockingIOError:
            return None if time.monotonic() < peer.deadline else b""
        except OSError:
            return b""
        peer.heard += piece
        line, newline, _ = peer.heard.partition(b"\n")
        if newline and len(line) <= MAX_QUESTION:
            return bytes(line)
        return b"" if not piece or len(peer.heard) > MAX_QUESTION else None

    def _reply(self, peer: socket.socket, question: bytes, handler: Handler) -> None:
        answer = json.dumps(self._answer(peer, question, handler)).encode()
        peer.settimeout(_SENDING)
        with suppress(OSError):  # it went away, or does not read: its loss
            peer.sendall(answer + b"\n")

    def _answer(self, peer: socket.socket, question: bytes, handler: Handler) -> Mapping[str, Any]:
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        if uid not in (0, self._uid):
            return {"ok": False, "error": f"user {uid} does not own this lab"}
        try:
            asked = json.loads(question)
            if not isinstance(asked, dict):
                raise ValueError
        except (ValueError, RecursionError):
            return {"ok": False, "error": "the question is not a JSON object"}
        try:
            return {"ok": True, **handler(asked)}
        except MemlabError as error:
            code = error.exit_code
            return {"ok": False, "error": error.message, "hint": error.hint, "exit_code": code}

    def close(self) -> None:
        """Stop listening, hang up, and remove the socket."""
        self._socket.close()
        for peer in self._peers:
            peer.socket.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask(path: Path, question: Mapping[str, Any], *, timeout: float = 30.0) -> Mapping[str, Any]:
    """Ask the running lab. HostError if none answers; MemlabError if it refuses, with its words."""
    deadline = time.monotonic() + timeout
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(timeout)
            _connect(peer, path, deadline)
            peer.sendall(json.dumps(question).encode() + b"\n")
            raw = _read_line(peer, MAX_ANSWER, deadline)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise HostError("no lab is running", hint="start one: memlab up quickstart") from error
    except (OSError, ValueError) as error:
        raise MemlabError(
            f"the running lab did not answer within {timeout:.0f} s",
            hint="look at its log: memlab logs; end it: memlab down",
        ) from error
    answer: dict[str, Any] = json.loads(raw)
    if not answer.pop("ok"):
        refusal = MemlabError(answer["error"], hint=answer.get("hint", ""))
        refusal.exit_code = answer.get("exit_code", refusal.exit_code)
        raise refusal
    return answer


def _connect(peer: socket.socket, path: Path, deadline: float) -> None:
    """Connect; while many others wait to be let in the kernel answers "try again" (unix(7))."""
    while True:
        try:
            peer.connect(str(path))
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _read_line(peer: socket.socket, most: int, deadline: float) -> bytes:
    """Up to the first newline. TimeoutError when late, ValueError when long or cut off."""
    pieces = bytearray()
    while b"\n" not in pieces:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([peer], [], [], left)[0]:
            raise TimeoutError
        piece = peer.recv(65536)
        if not piece or len(pieces) + len(piece) > most:
            raise ValueError
        pieces += piece
    return bytes(pieces[: pieces.index(b"\n")])
