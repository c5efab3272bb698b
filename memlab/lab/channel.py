"""The control socket of a running lab: one JSON object asked, one answered.

`/run/memlab/control`, mode 0600, in a folder of mode 0700; the peer must be root or the user of
the run (SO_PEERCRED). A question is at most 64 KiB and must be complete within five seconds, so
that nobody can hold the lab up: a lab has other things to do.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from memlab.errors import HostError, MemlabError

NAME: Final = "control"
MAX_QUESTION: Final = 65536
MAX_ANSWER: Final = 16 * 1024 * 1024
PATIENCE: Final = 5.0
_CREDENTIALS: Final = struct.Struct("3i")

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Channel:
    """The listening side. `serve` answers one question; select on `fileno` to know when."""

    def __init__(self, path: Path, *, uid: int) -> None:
        self.path = path
        self._uid = uid
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(old)
        self._socket.listen(16)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when somebody asks."""
        return self._socket.fileno()

    def serve(self, handler: Handler) -> None:
        """Take one connection, if there is one, and answer it."""
        try:
            peer, _ = self._socket.accept()
        except BlockingIOError:
            return
        with peer:
            try:
                question = _read_line(peer, MAX_QUESTION, time.monotonic() + PATIENCE)
                answer = self._answer(peer, question, handler)
                peer.settimeout(PATIENCE)
                peer.sendall(json.dumps(answer).encode() + b"\n")
            except (OSError, ValueError):
                return  # the peer went away, or was too slow or too long: its loss

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
        """Stop listening and remove the socket."""
        self._socket.close()
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
            peer.connect(str(path))
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
