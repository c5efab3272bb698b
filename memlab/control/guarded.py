"""A policy at arm's length: what it answers is checked, and it does not answer for ever.

A policy may be a stranger's (`policy: ./mine.py:Mine`). One that raises, that takes longer than its
deadline, or whose decision cannot be carried out, costs the lab nothing but that policy.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from memlab.control.policy import (
    Action,
    Age,
    Balloon,
    Block,
    Decision,
    LeftAlone,
    Mechanism,
    Policy,
    Reclaim,
    Share,
    View,
)
from memlab.errors import MemlabError
from memlab.units import PAGE, format_size

DEADLINE: Final = 1.0
"""Seconds in which a policy has to decide: the lab's loop waits for it."""
_AGAIN: Final = 0.1


class PolicyError(MemlabError):
    """The policy has raised, was too slow, or decided what cannot be."""


class _TooLong(BaseException):
    """Raised into a policy that is over its time; no `except Exception` of its own holds it."""


def decide(policy: Policy, view: View, *, deadline: float = DEADLINE) -> tuple[Decision, float]:
    """The policy's decision, checked, and the seconds that it took. PolicyError says what is wrong.

    The deadline is enforced by a timer signal, so only in the main thread; elsewhere a policy that
    hangs does hang.
    """
    name = getattr(policy, "name", type(policy).__name__)
    began = time.perf_counter()
    try:
        with _within(deadline):
            found = policy.decide(view)
    except _TooLong:
        raise PolicyError(f"policy {name} had not decided after {deadline:g} s") from None
    except Exception as error:  # a stranger's code: whatever it raises is its own
        where = _where(error)
        raise PolicyError(f"policy {name} raised {type(error).__name__}: {error}{where}") from error
    took = time.perf_counter() - began
    if why := nonsense(found, view):
        raise PolicyError(f"policy {name} decided what cannot be: {why}")
    return found, took


def nonsense(found: object, view: View) -> str:
    """What of a decision cannot be carried out; empty if all can."""
    if not isinstance(found, Decision):
        return f"it gave {type(found).__name__}, not a Decision"
    if not isinstance(found.state, str):
        return "its state is not a word"
    for left in found.left_alone:
        if not isinstance(left, LeftAlone) or not isinstance(left.reason, str):
            return "one of left_alone is not a LeftAlone with its reason"
    sizes = {vm.name: vm.configured for vm in view.vms}
    return next((why for action in found.actions if (why := _wrong(action, sizes))), "")


def _wrong(action: object, sizes: dict[str, int]) -> str:
    if not isinstance(action, Action):
        return f"an action is of type {type(action).__name__}"
    if not isinstance(action.reason, str) or not action.reason:
        return f"{type(action).__name__} without a reason"
    if isinstance(action, Share):
        pages = action.pages_to_scan
        if pages is not None and not (_is_whole(pages) and 1 <= pages <= 1_000_000):
            return f"pages_to_scan {pages!r}"
        return ""
    if action.vm not in sizes:
        return f"there is no VM {action.vm!r}"
    return _wrong_size(action, sizes[action.vm])


def _wrong_size(action: Balloon | Reclaim | Age | Block, configured: int) -> str:
    match action:
        case Balloon(target=size):
            if not _is_whole(size) or not 0 <= size <= configured:
                return f"a balloon of {_shown(size)} in a VM of {format_size(configured)}"
        case Reclaim(size=size, into=into):
            if into not in (Mechanism.COMPRESSION, Mechanism.SWAP):
                return f"pages cannot be pushed into {into!r}"
            if not _is_whole(size) or not 0 < size <= configured + PAGE:
                return f"{_shown(size)} pushed out of a VM of {format_size(configured)}"
        case Age() | Block():
            return ""
    return ""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    if isinstance(value, int | float) and math.isfinite(value):
        return format_size(value)
    return repr(value)


def _where(error: BaseException) -> str:
    """The last line of the policy's own file that was reached."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"


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
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
