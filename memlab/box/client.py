"""One command in a running box, from outside: streams, signals, status, and what it wrote."""

from __future__ import annotations

import os
import selectors
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from memlab.box.machine import Machine
from memlab.box.mirror import Landing
from memlab.box.wire import CHUNK, Message
from memlab.errors import MemlabError

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON: Final = ("TERM", "NO_COLOR", "COLUMNS", "LINES", "TZ")
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Sink = Callable[[bytes], None]


def environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """Of a command in the box: memlab's variables and the terminal's; nothing else goes in."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or (name.startswith("MEMLAB_") and not name.startswith("MEMLAB_BOX"))
    }
    return {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **passed, **extra}


@dataclass(slots=True)
class Streams:
    """Where a command's output goes, and where its input comes from (None: it has none)."""

    out: Sink
    err: Sink
    stdin: int | None = None


def own_streams() -> Streams:
    """This process's own."""
    return Streams(
        out=lambda data: _write(sys.stdout.fileno(), data),
        err=lambda data: _write(sys.stderr.fileno(), data),
        stdin=sys.stdin.fileno() if sys.stdin and not sys.stdin.closed else None,
    )


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


class Running:
    """A command in a box. `run` returns its status when it has ended and its files are here."""

    number: Final = 1

    def __init__(
        self,
        machine: Machine,
        streams: Streams,
        *,
        landing: Landing | None = None,
        landed: Callable[[], None] = lambda: None,
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        """`landed` is called when files are here as they are inside; `idle` ten times a second."""
        self._machine = machine
        self._streams = streams
        self._landing = landing
        self._landed = landed
        self._idle = idle
        self._status: int | None = None
        self._signals: list[int] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        terminal: tuple[int, int] | None = None,
    ) -> int:
        """Its exit status; 128 + n if signal n ended it. VmError if the box has died."""
        self._machine.send(
            "run", id=self.number, argv=list(argv), cwd=str(cwd), env=dict(env), terminal=terminal
        )
        with self._passing_on(), selectors.DefaultSelector() as ready:
            ready.register(self._machine.channel, selectors.EVENT_READ)
            if self._streams.stdin is None:
                self._machine.send("eof", id=self.number)
            elif not self._watch_input(ready):
                self._input()
            while self._status is None:
                for key, _ in ready.select(0.1):
                    if key.fd == self._machine.channel.fileno():
                        for message in self._machine.receive():
                            self._take(message)
                    elif not self._input():
                        ready.unregister(key.fd)
                self._pass_signals()
                self._idle()
        return self._status if self._status >= 0 else 128 - self._status

    def resize(self, rows: int, columns: int) -> None:
        """Its terminal has another size now."""
        self._machine.send("resize", id=self.number, rows=rows, columns=columns)

    def _watch_input(self, ready: selectors.BaseSelector) -> bool:
        """Whether there is input to be waited for; a plain file is read at once."""
        assert self._streams.stdin is not None
        try:
            ready.register(self._streams.stdin, selectors.EVENT_READ)
        except PermissionError:
            while self._input():
                pass
        return True

    def _input(self) -> bool:
        """Hand on what there is of the input; whether there may be more."""
        assert self._streams.stdin is not None
        piece = os.read(self._streams.stdin, CHUNK)
        if piece:
            self._machine.send("stdin", piece, id=self.number)
        else:
            self._machine.send("eof", id=self.number)
        return bool(piece)

    def _take(self, message: Message) -> None:
        match message.kind:
            case "out":
                self._streams.out(message.data)
            case "err":
                self._streams.err(message.data)
            case "exit":
                self._status = int(message.facts["status"])
            case "file" | "settled" if self._landing is not None:
                if self._landing.take(message):
                    self._landed()
            case "fault":
                raise MemlabError(f"the box could not do it: {message.facts['why']}")

    def _pass_signals(self) -> None:
        while self._signals:
            self._machine.send("signal", id=self.number, number=self._signals.pop(0))

    @contextmanager
    def _passing_on(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP go to the command; the third one ends the box itself."""
        count = 0

        def handler(number: int, _frame: FrameType | None) -> None:
            nonlocal count
            count += 1
            if count > 2:
                raise KeyboardInterrupt
            self._signals.append(number)

        before = {number: signal.signal(number, handler) for number in _ENDS}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)
