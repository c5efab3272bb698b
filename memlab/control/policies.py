"""The policies by name, and how a lab file's settings become one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from memlab.control.best import Best
from memlab.control.esx import Esx15, Esx41, Esxi5, Esxi6
from memlab.control.guarded import file_of, raised
from memlab.control.hyperv import Hyperv
from memlab.control.ksmtuned import Ksmtuned
from memlab.control.ladder import Ladder
from memlab.control.mom import Mom
from memlab.control.policy import Policy
from memlab.control.proxmox import Proxmox
from memlab.control.senpai import Senpai
from memlab.control.settings import UNSCALED, Scales, Setting, Value, declared
from memlab.control.squeezed import Squeezed
from memlab.control.static import Nothing, Static
from memlab.control.userpolicy import (
    is_user_policy,
    load,
    must_be_whole,
    settings_type_of,
    strangers_code,
)
from memlab.errors import UsageError
from memlab.units import UnitError

_KNOWN: Final[tuple[Any, ...]] = (
    *(Nothing, Static, Ladder, Best, Esx15, Esx41, Esxi5, Esxi6),
    *(Mom, Ksmtuned, Proxmox, Squeezed, Hyperv, Senpai),
)
POLICIES: Final[Mapping[str, Any]] = {policy.name: policy for policy in _KNOWN}
"""The classes by name. Each has `name`, `settings_type`, and is made from its settings (and, the
peers, the scales of the comparison)."""
HERE: Final = Path()


def find(name: str, folder: Path = HERE) -> Any:
    """The class that `name` means: one of POLICIES, or a user's, `./mine.py:Mine`, whose path is
    taken from `folder`. UsageError if there is none."""
    if is_user_policy(name):
        return load(name, folder)
    if name not in POLICIES:
        raise UsageError(f"no policy is called {name!r}", hint=_nearest(name, POLICIES))
    return POLICIES[name]


def settings_of(name: str, folder: Path = HERE) -> Mapping[str, Setting]:
    """The settings of the policy `name`; UsageError: no such, or none that can be read."""
    kind = find(name, folder)
    with strangers_code(name, folder):
        return declared(settings_type_of(kind))


def read(name: str, settings: Mapping[str, object], folder: Path = HERE) -> dict[str, Value]:
    """The values that a lab file's `settings` mean; UsageError names what is not known."""
    known, found = settings_of(name, folder), {}
    for key, raw in settings.items():
        if key not in known:
            raise UsageError(f"policy {name} has no setting {key!r}", hint=_nearest(key, known))
        try:
            found[key] = known[key].read(raw)
        except UnitError as error:
            raise UsageError(f"policy {name}, {key}: {error}", hint=error.fix) from None
    return found


def build(
    name: str,
    settings: Mapping[str, object],
    scales: Scales = UNSCALED,
    *,
    maximum: float | None = None,
    folder: Path = HERE,
) -> Policy:
    """The policy `name` with `settings` over its defaults; UsageError names what is not known, or
    what a user's own class raised, so that one can know before anything is changed.

    `maximum` is the lab's limit of a balloon, for policies that have none of their own set.
    """
    kind = find(name, folder)
    values = read(name, settings, folder)
    with strangers_code(name, folder):
        settings_type = settings_type_of(kind)
        if maximum is not None and "maximum" in declared(settings_type):
            values.setdefault("maximum", maximum)
        policy: Policy = kind(settings_type(**values)) if hasattr(kind, "settings_type") else kind()
        policy.settings = getattr(policy, "settings", settings_type(**values))
        policy.scales = scales
        must_be_whole(policy, settings_type)
    return policy


def retune(policy: Policy, key: str, value: Value) -> None:
    """Change one setting of a policy at work; where it stands (state, averages) stays. UsageError
    if it does not take it."""
    try:
        policy.settings = dataclasses.replace(policy.settings, **{key: value})
    except (Exception, SystemExit) as error:  # a user's settings may check themselves
        why = raised(error, file_of(type(policy.settings)))
        message = f"policy {policy.name} does not take {key} = {value}: it {why}"
        raise UsageError(message, hint="give it another value, or mend its settings") from error


def _nearest(word: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there is: {', '.join(known) or 'none'}"
