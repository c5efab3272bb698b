"""A policy at arm's length: what it answers is checked, and it does not answer for ever.

A policy may be a stranger's (`policy: ./mine.py:Mine`). One that raises, that takes longer than its
deadline, or whose decision cannot be carried out, costs the lab nothing but that policy. So its
words are asked for, looked at and put into an error all within the deadline: each may run code of
the policy.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from traceback import walk_tb
from types import FrameType
from typing import Final

from memlab.control.policy import Decision, Policy, View
from memlab.control.sound import NonsenseError, is_text, sound
from memlab.errors import MemlabError

DEADLINE: Final = 1.0
"""Seconds in which a policy has to decide: the lab's loop waits for it."""
_AGAIN: Final = 0.1
_LONGEST: Final = 500
"""Characters of an error's own words that are kept."""


class PolicyError(MemlabError):
    """The policy has raised, was too slow, or decided what cannot be."""


class _TooLong(BaseException):
    """Raised into a policy that is over its time; no `except Exception` of its own holds it."""


def decide(policy: Policy, view: View, *, deadline: float = DEADLINE) -> tuple[Decision, float]:
    """The policy's decision, checked, and the seconds that it took. PolicyError says what is wrong.

    SystemExit is the policy's too; KeyboardInterrupt is the user's and goes through. The deadline
    is enforced by a timer signal, so only in the main thread; elsewhere a policy that hangs does
    hang.
    """
    name = type(policy).__name__
    began = time.perf_counter()
    try:
        with _within(deadline):
            name = _name(policy, name)
            found = _decided(policy, name, view)
    except _TooLong:
        raise PolicyError(f"policy {name} had not decided after {deadline:g} s") from None
    return found, time.perf_counter() - began


def _decided(policy: Policy, name: str, view: View) -> Decision:
    try:
        return sound(policy.decide(view), view)
    except NonsenseError as error:
        why = f"policy {name} decided what cannot be: {error.message}"
        raise PolicyError(why) from None
    except (Exception, SystemExit) as error:  # a stranger's code: whatever it raises is its own
        raise PolicyError(f"policy {name} {raised(error, file_of(type(policy)))}") from error


def raised(error: BaseException, file: str | None = None) -> str:
    """`raised ValueError: its words (FILE, line N)`, whatever the error's words are.

    The line is the last one of `file` that was reached, of any file if that is not known.
    """
    words = "it cannot say what"
    with suppress(Exception):  # its words may be a stranger's code too
        words = str(error).encode("utf-8", "replace").decode()[:_LONGEST]
    return f"raised {type(error).__name__}: {words}{_where(error, file)}"


def file_of(kind: type) -> str | None:
    """The file in which a class stands; None if nobody knows."""
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def _name(policy: Policy, otherwise: str) -> str:
    with suppress(Exception):  # it may be a property
        return policy.name if is_text(policy.name) else otherwise
    return otherwise


def _where(error: BaseException, file: str | None) -> str:
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    places = [place for place in frames if file in (None, place[0])]
    return "".join(f" ({name}, line {line})" for name, line in places[-1:])


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise _TooLong here after `seconds`, and again until it gets through."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # it may ring just before the timer is off: then this is reached all the same
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
