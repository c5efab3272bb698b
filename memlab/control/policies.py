"""The policies by name, and how a lab file's settings become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Final

from memlab.control.ladder import Ladder
from memlab.control.policy import Policy
from memlab.control.static import Nothing, Static
from memlab.errors import UsageError

POLICIES: Final[Mapping[str, type[Ladder | Static]]] = {
    Ladder.name: Ladder,
    Static.name: Static,
    Nothing.name: Nothing,
}


def settings_of(name: str) -> Mapping[str, float]:
    """The settings of the policy `name` with their defaults, fractions 0…1. KeyError: no such."""
    return {key: float(value) for key, value in asdict(POLICIES[name].settings_type()).items()}


def build(name: str, settings: Mapping[str, float]) -> Policy:
    """The policy `name` with `settings` over its defaults; UsageError names what is not known."""
    if name not in POLICIES:
        raise UsageError(f"no policy is called {name!r}", hint=_nearest(name, POLICIES))
    known = settings_of(name)
    for key in settings:
        if key not in known:
            raise UsageError(f"policy {name} has no setting {key!r}", hint=_nearest(key, known))
    return POLICIES[name].make(**settings)


def _nearest(word: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there is: {', '.join(known) or 'none'}"
