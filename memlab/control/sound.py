"""Whether a decision can be carried out: every field of it that is used or recorded is looked at.

A policy may be a stranger's. What it answers may have any type in any place, and looking at it may
run code of its own; so whoever calls this has to be ready for every exception (`control.guarded`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from memlab.control.policy import (
    Action,
    Age,
    Balloon,
    Block,
    Decision,
    LeftAlone,
    Mechanism,
    Reclaim,
    Share,
    View,
)
from memlab.errors import MemlabError
from memlab.units import PAGE, format_size

_T = TypeVar("_T")
_MECHANISMS: Final = tuple(Mechanism)
_MOST_SCANNED: Final = 1_000_000
_SHOWN: Final = 60
"""Characters of a strange value in a message."""


class NonsenseError(MemlabError):
    """A decision that cannot be carried out; the message says what of it."""


def sound(found: object, view: View) -> Decision:
    """The decision, its actions and non-actions as tuples; NonsenseError if it cannot be.

    As tuples, because looking at a generator uses it up: nothing would be left to do.
    """
    if not isinstance(found, Decision):
        raise NonsenseError(f"it gave {type(found).__name__}, not a Decision")
    if not is_text(found.state):
        raise NonsenseError("its state is not a word")
    actions = _listed(found.actions, "actions")
    left_alone = _listed(found.left_alone, "left_alone")
    sizes = {vm.name: vm.configured for vm in view.vms}
    wrong = (*(_wrong(one, sizes) for one in actions), *map(_wrong_left, left_alone))
    if why := next(filter(None, wrong), ""):
        raise NonsenseError(why)
    return Decision(found.state, actions, left_alone)


def is_text(value: object) -> bool:
    """Whether it is a text that a recording can keep: a str, without half a character in it."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _listed(found: Iterable[_T], what: str) -> tuple[_T, ...]:
    if not isinstance(found, Iterable):
        raise NonsenseError(f"its {what} are of type {type(found).__name__}, not a tuple")
    return tuple(found)


def _wrong(action: object, sizes: dict[str, int]) -> str:
    """What of one action cannot be carried out; empty if all can."""
    if not isinstance(action, Action):
        return f"an action is of type {type(action).__name__}"
    if not is_text(action.reason) or not action.reason:
        return f"{type(action).__name__} without a reason"
    if isinstance(action, Share):
        return _wrong_share(action)
    if not isinstance(action.vm, str) or action.vm not in sizes:
        return f"there is no VM {_shown(action.vm)}"
    return _wrong_size(action, sizes[action.vm])


def _wrong_share(action: Share) -> str:
    pages = action.pages_to_scan
    if pages is not None and not (_is_whole(pages) and 1 <= pages <= _MOST_SCANNED):
        return f"pages_to_scan {_shown(pages)}"
    return _wrong_switch("Share.on", action.on)


def _wrong_size(action: Balloon | Reclaim | Age | Block, configured: int) -> str:
    match action:
        case Balloon(target=size):
            if not _is_whole(size) or not 0 <= size <= configured:
                return f"a balloon of {_size(size)} in a VM of {format_size(configured)}"
        case Reclaim(size=size, into=into, oldest=oldest):
            if into not in (Mechanism.COMPRESSION, Mechanism.SWAP):
                return f"pages cannot be pushed into {_shown(into)}"
            if not _is_whole(size) or not 0 < size <= configured + PAGE:
                return f"{_size(size)} pushed out of a VM of {format_size(configured)}"
            return _wrong_switch("Reclaim.oldest", oldest)
        case Block(on=on):
            return _wrong_switch("Block.on", on)
    return ""


def _wrong_left(left: object) -> str:
    """What of one non-action cannot be written down; empty if all can."""
    if not isinstance(left, LeftAlone) or not is_text(left.reason):
        return "one of left_alone is not a LeftAlone with its reason"
    if not isinstance(left.mechanism, str) or left.mechanism not in _MECHANISMS:
        return f"left_alone: there is no mechanism {_shown(left.mechanism)}"
    if not is_text(left.vm):
        return f"left_alone: a VM's name is a text, not {_shown(left.vm)}"
    return ""


def _wrong_switch(what: str, value: object) -> str:
    return "" if isinstance(value, bool) else f"{what} is {_shown(value)}, not True or False"


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _size(value: object) -> str:
    if isinstance(value, int | float) and abs(value) < 2**63:
        return format_size(value)
    return _shown(value)


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN]
