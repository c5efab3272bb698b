"""What ends a run from outside: a signal, or the guard."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from memlab.errors import MemlabError
from memlab.kernel.owner import Owner

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the run in order: `stop` hears which. A second one changes
    nothing."""

    def handler(number: int, _frame: FrameType | None) -> None:
        stop(signal.Signals(number).name)

    before = {number: signal.signal(number, handler) for number in _ENDING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def unless_aborted(owner: Owner, abort: Callable[[str], None]) -> Iterator[None]:
    """What fails because the guard has taken the lab's cgroups away is no failure of its own:
    `abort` hears the guard's reason."""
    try:
        yield
    except MemlabError:
        if (reason := owner.guard.aborted()) is None:
            raise
        abort(reason)
