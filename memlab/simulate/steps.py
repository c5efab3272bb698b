"""The lab file's timeline on the model: what is set at a time. What the model has no word for is
said, not done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from memlab.control.policy import Mechanism
from memlab.errors import UsageError
from memlab.lab.settable import Setting, SettingError, SettingKind, parse_setting
from memlab.lab.spec import Lab, Step, WorkloadSpec
from memlab.lab.values import Amount
from memlab.simulate.arrays import Floats
from memlab.simulate.governors import Governors
from memlab.units import PAGE


class Steps:
    """The steps `at:` a time, in their order. `notes` are those that the model leaves out."""

    def __init__(self, lab: Lab, governors: Governors) -> None:
        self._lab = lab
        self._governors = governors
        self._waiting = sorted(
            (step for step in lab.timeline if step.at is not None), key=lambda step: step.at or 0
        )
        self.notes = [f"not modelled: {what}" for what in _left_out(lab.timeline)]

    def take(self, now: float) -> None:
        """Those that are due at `now`, seconds since the run began."""
        while self._waiting and (self._waiting[0].at or 0) <= now + 1e-9:
            for path, value in self._waiting.pop(0).set.items():
                self._set(path, value)

    def _set(self, path: str, value: Any) -> None:
        try:
            setting = parse_setting(path, value, self._lab)
        except SettingError as error:
            self.notes.append(f"not set: {error}")
            return
        hand = _HANDS.get(setting.kind)
        if hand is None:
            self.notes.append(f"not modelled: set {path}")
            return
        try:
            hand(self._governors, setting)
        except UsageError as error:
            self.notes.append(f"not set: {path}: {error.message}")


def _left_out(steps: tuple[Step, ...]) -> list[str]:
    """What of a timeline no model could do, once each."""
    found = ["timeline steps with when:" for step in steps if step.when]
    found += ["exec in a VM" for step in steps if step.exec]
    found += ["migration" for step in steps if step.migrate]
    return list(dict.fromkeys(found))


def _meant(governors: Governors, setting: Setting) -> list[int]:
    """The VMs of the fleet: every copy of those that the setting names."""
    places = governors.model.fleet.places
    return [i for i, place in enumerate(places) if place.spec.name in setting.vms]


def _pages(governors: Governors, setting: Setting) -> Floats:
    """The setting's size for each VM that it means, else 0."""
    assert isinstance(setting.value, Amount)
    found = np.zeros(governors.model.fleet.count)
    for i in _meant(governors, setting):
        memory = governors.model.fleet.places[i].spec.memory
        found[i] = setting.value.of(memory) / PAGE
    return found


def _balloon(governors: Governors, setting: Setting) -> None:
    model = governors.model
    if Mechanism.BALLOON in model.fleet.mechanisms:
        most = model.fleet.configured * model.fleet.lab.mechanisms.balloon.maximum
        which = _meant(governors, setting)
        asked = np.minimum(_pages(governors, setting), most)
        model.balloons.target[which] = asked[which]


def _workload(governors: Governors, setting: Setting) -> None:
    """As live: a size or a content that is not given stays as it was."""
    fresh = setting.value
    assert isinstance(fresh, WorkloadSpec)
    places = governors.model.fleet.places
    by_spec: dict[int, list[int]] = {}
    for i in _meant(governors, setting):
        by_spec.setdefault(id(places[i].spec), []).append(i)
    for which in by_spec.values():
        old = places[which[0]].spec
        content = fresh.content or old.workload.content or old.content
        changed = {"size": fresh.size or old.workload.size, "content": content}
        spec = old.model_copy(update={"workload": fresh.model_copy(update=changed)})
        governors.model.start_application(which, spec)


def _limit(governors: Governors, setting: Setting) -> None:
    """The swap cache counts against a limit, so it goes first."""
    model, which = governors.model, _meant(governors, setting)
    model.fleet.limit[which] = _pages(governors, setting)[which]
    model.pages.cached[:, which] = 0
    _claim("limit")(governors, setting)


def _reclaim(governors: Governors, setting: Setting) -> None:
    fleet = governors.model.fleet
    compress = Mechanism.COMPRESSION in fleet.mechanisms
    into = Mechanism.COMPRESSION if compress else Mechanism.SWAP
    governors.model.push_out(_pages(governors, setting), into)


def _claim(name: str) -> Callable[[Governors, Setting], None]:
    def change(governors: Governors, setting: Setting) -> None:
        claims = getattr(governors.claims, name)
        for i in _meant(governors, setting):
            value = setting.value
            memory = governors.model.fleet.places[i].spec.memory
            claims[i] = value.of(memory) if isinstance(value, Amount) else value

    return change


def _share(governors: Governors, setting: Setting) -> None:
    if Mechanism.SHARING in governors.model.fleet.mechanisms:
        governors.model.ksmd.on[:] = float(bool(setting.value))


def _pace(governors: Governors, setting: Setting) -> None:
    assert isinstance(setting.value, int)
    governors.model.ksmd.pages_to_scan[:] = setting.value


def _sleep(governors: Governors, setting: Setting) -> None:
    assert isinstance(setting.value, int | float)
    governors.model.ksmd.sleep = float(setting.value)


def _budget(governors: Governors, setting: Setting) -> None:
    assert isinstance(setting.value, int)
    fleet = governors.model.fleet
    part = fleet.hosts.sum(fleet.configured) / fleet.lab.configured
    governors.model.budget = part * setting.value


def _policy(governors: Governors, setting: Setting) -> None:
    governors.retune(setting.key, setting.value)


_HANDS: Final[Mapping[SettingKind, Callable[[Governors, Setting], None]]] = {
    SettingKind.BALLOON: _balloon,
    SettingKind.RECLAIM: _reclaim,
    SettingKind.WORKLOAD: _workload,
    SettingKind.LIMIT: _limit,
    SettingKind.SHARES: _claim("shares"),
    SettingKind.RESERVATION: _claim("reservation"),
    SettingKind.TPS_ENABLED: _share,
    SettingKind.TPS_PAGES: _pace,
    SettingKind.TPS_SLEEP: _sleep,
    SettingKind.BUDGET: _budget,
    SettingKind.POLICY: _policy,
}
