"""The live progress of `up`: a table of the VMs by layer that redraws, or plain lines.

It reads `latest` values only and bounds its own cost: at most two redraws a second, and fewer where
a redraw is dear (many VMs, a slow terminal), so that it takes at most 2 % of one core.
"""

from __future__ import annotations

import sys
import time as clock
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from memlab.live.screen import plain_line, screen
from memlab.record.series import Source

REDRAW: Final = 0.5
"""Shortest time between two redraws, seconds."""
LINE: Final = 5.0
"""Time between two plain lines, seconds."""
SHARE: Final = 0.02
"""Largest part of one core that redrawing may take."""


class Notes:
    """The watcher of a run whose values are shown elsewhere: what happened, a line each."""

    def update(self, source: Source, time: float, phase: str, *, state: str = "") -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """The line on stderr, at once."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class Progress:
    """Shows a running lab on `stream`. `terminal` says whether it may redraw.

    `update` as often as is convenient, `note` what happened, `close` at the end; the last table
    stays on the screen. The caller takes in new samples (`Derived.refresh`) before `update`.
    """

    def __init__(
        self, terminal: bool, stream: TextIO, *, now: Callable[[], float] = clock.monotonic
    ) -> None:
        self._now = now
        self._due = -1.0
        self._console = Console(
            file=stream,
            force_terminal=terminal,
            no_color=None if terminal else True,
            highlight=False,
            soft_wrap=not terminal,
        )
        self._live: Live | None = None
        if terminal:
            # What others write to stderr goes above the table; stdout is for data, and left alone.
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                vertical_overflow="crop",
            )
            self._live.start()

    def update(self, source: Source, time: float, phase: str, *, state: str = "") -> bool:
        """Show where the run stands at `time` seconds; whether anything was drawn.

        `state` is the policy's own word for where it stands.
        """
        began = self._now()
        if began < self._due:
            return False
        if self._live is None:
            self._console.print(Text(plain_line(source, time, phase, state)))
            self._due = began + LINE
            return True
        cpu = clock.thread_time()
        size = self._console.size
        view = screen(source, time, phase, state, width=size.width, rows=max(1, size.height - 12))
        self._live.update(view, refresh=True)
        self._due = began + max(REDRAW, (clock.thread_time() - cpu) / SHARE)
        return True

    def note(self, text: str) -> None:
        """One line that stays, above the table: an event, a decision."""
        # Never as markup: a VM may be called `[red]`.
        self._console.print(Text(text))

    def close(self) -> None:
        """Leave the last table standing and give the cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
