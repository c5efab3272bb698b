"""The policies at work on the model: one object of the live class for each host.

What a decision asks for is checked as in a running lab (`control.guarded`), a policy that fails is
dismissed for `static`, and what became of each kind of action is counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np

from memlab.control.guarded import PolicyError, decide
from memlab.control.policies import HERE, build, retune
from memlab.control.policy import (
    Age,
    Balloon,
    Block,
    Decision,
    Mechanism,
    Policy,
    Reclaim,
    Share,
)
from memlab.control.settings import Scales, Value, declared
from memlab.control.static import Static
from memlab.control.userpolicy import is_user_policy
from memlab.errors import UsageError
from memlab.lab.spec import Lab
from memlab.simulate.arrays import Floats
from memlab.simulate.model import Model
from memlab.simulate.views import Claims, views
from memlab.units import PAGE, UnitError

_WayOut = tuple[Mechanism, bool]
"""Where pages go, and whether the oldest do."""
_WAYS_OUT: Final = tuple(product((Mechanism.COMPRESSION, Mechanism.SWAP), (False, True)))


@dataclass(slots=True)
class Deeds:
    """What a policy did on all hosts: actions by kind, bytes asked and got, decisions by state.

    `failed` is why it was dismissed on the first host where it was; `seconds` the CPU time of its
    decisions and of showing it the model.
    """

    actions: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    got: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    failed: str = ""
    seconds: float = 0.0


class Governors:
    """A policy for each host, and the hands that carry out what they decide."""

    def __init__(self, model: Model, lab: Lab, *, folder: Path = HERE) -> None:
        self.model = model
        self.deeds = Deeds()
        self.claims = Claims(
            [place.spec.shares for place in model.fleet.places],
            [place.spec.reservation for place in model.fleet.places],
            [place.spec.limit for place in model.fleet.places],
        )
        self._where = {place.name: i for i, place in enumerate(model.fleet.places)}
        self._name = lab.policy.name
        self.policies = [_build(lab, folder) for _ in range(model.fleet.hosts.count)]

    def decide(self) -> None:
        """One tick of every policy, and what they asked for."""
        began = process_time()
        pushes = {way: np.zeros(self.model.fleet.count) for way in _WAYS_OUT}
        for host, view in enumerate(views(self.model, self.claims)):
            try:
                decision, _ = decide(self.policies[host], view)
            except PolicyError as error:
                self._dismiss(host, error)
                continue
            self.deeds.states[decision.state] += 1
            self._carry_out(host, decision, pushes)
        for (into, oldest), wanted in pushes.items():
            if wanted.any():
                got = self.model.push_out(wanted, into, oldest=oldest)
                self.deeds.got[into] += round(float(got.sum()) * PAGE)
        self.deeds.seconds += process_time() - began

    def retune(self, key: str, raw: object) -> None:
        """Change one setting of every policy that has it, as a running lab does. UsageError if none
        has it, or it cannot mean `raw`: a user's policy reads what the lab file says by itself."""
        having = [one for one in self.policies if key in declared(type(one.settings))]
        if not having:
            raise UsageError(f"policy {self.policies[0].name} has no setting {key!r}")
        for policy in having:
            retune(policy, key, self._read(policy, key, raw))

    def _read(self, policy: Policy, key: str, raw: object) -> Value:
        if not is_user_policy(self._name):  # the lab file's check has read it
            assert isinstance(raw, int | float | str)
            return raw
        try:
            return declared(type(policy.settings))[key].read(raw)
        except UnitError as error:
            raise UsageError(str(error), hint=error.fix) from None

    def _dismiss(self, host: int, error: PolicyError) -> None:
        self.policies[host] = Static()
        self.deeds.failed = self.deeds.failed or error.message
        first, last = self._vms_of(host)
        self.model.blocked[first:last] = False

    def _vms_of(self, host: int) -> tuple[int, int]:
        starts = self.model.fleet.hosts.starts
        last = starts[host + 1] if host + 1 < len(starts) else self.model.fleet.count
        return int(starts[host]), int(last)

    def _carry_out(self, host: int, decision: Decision, pushes: dict[_WayOut, Floats]) -> None:
        for action in decision.actions:
            match action:
                case Share():
                    self._share(host, action)
                case Balloon():
                    self._balloon(action)
                case Reclaim(vm=vm, size=size, into=into, oldest=oldest):
                    self.deeds.actions[into] += 1
                    self.deeds.asked[into] += size
                    pushes[into, oldest][self._where[vm]] += size / PAGE
                case Age(vm=vm):
                    self.deeds.actions["age"] += 1
                    self.model.make_old(self._where[vm])
                case Block(vm=vm, on=on):
                    self.deeds.actions["block"] += 1
                    self.model.blocked[self._where[vm]] = on

    def _share(self, host: int, action: Share) -> None:
        self.deeds.actions[Mechanism.SHARING] += 1
        self.model.ksmd.on[host] = float(action.on)
        if action.pages_to_scan is not None:
            self.model.ksmd.pages_to_scan[host] = action.pages_to_scan

    def _balloon(self, action: Balloon) -> None:
        vm = self._where[action.vm]
        self.deeds.actions[Mechanism.BALLOON] += 1
        if not self.model.blocked[vm]:
            self.model.balloons.target[vm] = action.target / PAGE


def _build(lab: Lab, folder: Path) -> Policy:
    """As a running lab makes it."""
    policy = lab.policy
    scales = Scales(policy.time_scale, policy.size_scale)
    maximum = lab.mechanisms.balloon.maximum
    return build(policy.name, policy.settings, scales, maximum=maximum, folder=folder)
