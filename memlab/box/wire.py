"""What the box's agent and the host say to each other: a JSON line, then as many bytes as it says.

    {"t": "out", "id": 1, "size": 5}\n
    hello

`t` names the message. Host to agent: `attach`, `run`, `stdin`, `eof`, `signal`, `resize`, `sync`,
`off`. Agent to host: `hello`, `attached`, `out`, `err`, `exit`, `file`, `gone`, `settled`,
`synced`, `fault`. Both ends run this file, so it is standard library alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

CHUNK: Final = 64 * 1024
"""Bytes that one message carries at most when a stream or a file is sent."""
LONGEST_LINE: Final = 1024 * 1024
"""A line longer than this is not ours."""


class WireError(Exception):
    """The other side does not speak this protocol."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its name, its facts, its bytes."""

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    data: bytes = b""


def encode(kind: str, data: bytes = b"", **facts: Any) -> bytes:
    """The bytes of one message."""
    head = {"t": kind, **facts, "size": len(data)}
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + data


class Decoder:
    """Messages out of a stream that comes in pieces of any size, without quadratic copying."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 1
        self._head: dict[str, Any] | None = None

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that `piece` completes; WireError if they are none."""
        self._pieces.append(piece)
        self._have += len(piece)
        while self._have >= self._need:
            whole = b"".join(self._pieces)
            message, rest = self._take(whole)
            self._pieces, self._have = [rest], len(rest)
            if message is not None:
                yield message

    def _take(self, whole: bytes) -> tuple[Message | None, bytes]:
        """A message and what follows; None if more bytes are needed (`_need` says how many)."""
        if self._head is None:
            line, newline, whole = whole.partition(b"\n")
            if not newline:
                if len(line) > LONGEST_LINE:
                    raise WireError("a line without an end")
                self._need = len(line) + 1
                return None, line
            self._head = _head(line)
        size = self._head["size"]
        if len(whole) < size:
            self._need = size
            return None, whole
        facts = {name: value for name, value in self._head.items() if name not in ("t", "size")}
        kind, self._head, self._need = str(self._head["t"]), None, 1
        return Message(kind, facts, whole[:size]), whole[size:]


def _head(line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(line)
    except ValueError as error:
        raise WireError(f"not JSON: {line[:80]!r}") from error
    if not isinstance(head, dict) or "t" not in head or not isinstance(head.get("size"), int):
        raise WireError(f"not a message: {line[:80]!r}")
    return head
