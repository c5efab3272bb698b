"""Who decides in a running lab: the timeline at its moments, the policy at its ticks.

Everything that either does is written down: what was set with what came of it, and for each tick
the policy's state, its actions with asked and got, and its reasons for what it left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memlab.control.guarded import PolicyError, decide
from memlab.control.policies import HERE, build, retune
from memlab.control.policy import (
    Action,
    Age,
    Balloon,
    Block,
    Decision,
    Mechanism,
    Reclaim,
    Share,
    View,
)
from memlab.control.settings import Scales, Value, declared
from memlab.control.settings import Setting as Declared
from memlab.control.static import Static
from memlab.control.userpolicy import is_user_policy
from memlab.control.view import to_json, view_at
from memlab.errors import MemlabError, UsageError
from memlab.lab.hands import Hands
from memlab.lab.settable import Setting, SettingError, SettingKind, parse_setting
from memlab.lab.spec import Lab
from memlab.lab.timeline import Due, Timeline
from memlab.record.derive import Derived
from memlab.record.series import Choice, Tick
from memlab.record.store import Recording
from memlab.units import UnitError

Verify = Callable[[], None]


class Governor:
    """Timeline and policy of one run."""

    def __init__(
        self,
        lab: Lab,
        hands: Hands,
        *,
        source: Derived,
        recording: Recording,
        note: Callable[[str], None],
        verify: Verify,
        moved: Callable[[str], None],
        folder: Path = HERE,
    ) -> None:
        """`folder` is the lab file's: a policy of the user's own is found from there. `moved` is
        told of a VM that has become another process."""
        self.lab = lab
        self.hands = hands
        scales = Scales(lab.policy.time_scale, lab.policy.size_scale)
        self._policy = build(
            lab.policy.name, lab.policy.settings, scales,
            maximum=lab.mechanisms.balloon.maximum, folder=folder,
        )  # fmt: skip
        self._timeline = Timeline(lab.timeline, vms=[vm.name for vm in lab.vms])
        self._source = source
        self._recording = recording
        self._note = note
        self._verify = verify
        self._moved = moved
        self._has_when = any(step.when for step in lab.timeline)
        self._next_tick = lab.policy.period
        self.state = ""
        """The policy's word for where it stood at its last tick."""

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        latest, events = self._source.latest, self._source.events() if self._has_when else ()
        for due in self._timeline.due(now, latest, events=events):
            self._do(due, now)
        if now >= self._next_tick:
            # Missed ticks are not made up for: the policy acts on what it sees now.
            self._next_tick = max(self._next_tick + self.lab.policy.period, now)
            self._decide(now)

    def view(self, now: float) -> View | None:
        """What a policy sees now; None as long as the lab's use has not been sampled."""
        return view_at(now, self._source.latest, self.hands.frame(), self.hands.claims.values())

    def set_now(self, now: float, settings: Mapping[str, Any], by: str = "set") -> list[str]:
        """Carry out these settings; all are checked before the first one is done."""
        try:
            parsed = [parse_setting(path, value, self.lab) for path, value in settings.items()]
        except SettingError as error:
            fault = error.faults[0]
            raise UsageError(fault.message, hint=fault.fix) from error
        done = []
        for setting in parsed:
            lines = self._apply(setting)
            data = {"path": setting.path, "value": settings[setting.path], "got": lines, "by": by}
            for vm in setting.vms or ("",):
                self._recording.event(now, "set", vm, data)
            self._note(f"set {setting.path} = {settings[setting.path]}")
            done += [f"{setting.path}: {line}" for line in lines]
        return done

    def run_in(self, now: float, vm: str, words: Sequence[str]) -> Mapping[str, Any]:
        """Run a command in a VM; it is recorded."""
        answer = self.hands.run_in(vm, words)
        self._recording.event(now, "exec", vm, {"command": list(words), **answer})
        return answer

    def _apply(self, setting: Setting) -> list[str]:
        if setting.kind is not SettingKind.POLICY:
            return self.hands.apply(setting)
        known = declared(type(self._policy.settings))
        if setting.key not in known:
            raise UsageError(f"policy {self._policy.name} has no setting {setting.key!r}")
        value = setting.value
        if is_user_policy(self.lab.policy.name):
            value = _read(known[setting.key], value)
        assert isinstance(value, int | float | str)
        retune(self._policy, setting.key, value)
        return [f"policy {self._policy.name}: {setting.key} is {known[setting.key].show(value)}"]

    def _do(self, due: Due, now: float) -> None:
        """One step of the timeline. What a guest refuses is an event; the run goes on."""
        step = due.step
        try:
            if step.mark:
                self._recording.event(now, "mark", "", {"mark": step.mark, "why": due.why})
                self._note(step.mark)
            if step.set:
                self.set_now(now, step.set, by=f"timeline, {due.why}")
            if step.exec:
                self.run_in(now, step.exec.vm, step.exec.command)
            if step.migrate:
                self._migrate(now, step.migrate)
            if step.verify:
                self._verify()
        except MemlabError as error:
            self._recording.event(now, "refused", "", {"why": error.message})
            self._note(error.message)

    def _migrate(self, now: float, vm: str) -> None:
        took = self.hands.migrate(vm)
        self._moved(vm)
        self._recording.event(now, "migrated", vm, took)
        self._note(f"{vm} was migrated in {took['seconds']:.2f} s")

    def _decide(self, now: float) -> None:
        view = self.view(now)
        if view is None:
            return
        try:
            decision, seconds = decide(self._policy, view)
        except PolicyError as error:
            self._dismiss(now, error)
            return
        name = self._policy.name
        self._recording.tick(Tick(now, name, decision.state, seconds, to_json(view)))
        if decision.state != self.state:
            self._note(f"{name}: {self.state or 'begins'} → {decision.state}")
            self.state = decision.state
        for action in decision.actions:
            self._carry_out(now, decision, action)
        for left in decision.left_alone:
            self._recording.choice(
                Choice(
                    now, name, decision.state, "left-alone", left.mechanism, left.vm, left.reason
                )
            )

    def _dismiss(self, now: float, error: PolicyError) -> None:
        """The policy has failed: the lab goes on with the timeline alone, every VM running."""
        data = {"policy": self._policy.name, "why": error.message, "now": Static.name}
        self._recording.event(now, "policy-failed", "", data)
        self._note(f"{error.message}; the lab goes on with the policy static")
        self._policy = Static()
        self.hands.release()

    def _carry_out(self, now: float, decision: Decision, action: Action) -> None:
        try:
            done = self.hands.act(action)
            asked, got, seconds = done.asked, done.got, done.seconds
        except MemlabError as error:
            asked, got, seconds = "", f"refused: {error.message}", 0.0
        self._recording.choice(
            Choice(
                now, self._policy.name, decision.state, type(action).__name__.lower(),
                _mechanism(action), "" if isinstance(action, Share) else action.vm,
                action.reason, asked, got, seconds,
            )
        )  # fmt: skip


def _mechanism(action: Action) -> str:
    """The word in the journal's column `mechanism`: one of the four, or `block` or `age`, which are
    none of them: by neither is a page pushed out."""
    match action:
        case Block():
            return "block"
        case Age():
            return "age"
        case Share():
            return Mechanism.SHARING
        case Balloon():
            return Mechanism.BALLOON
        case Reclaim(into=into):
            return into


def _read(setting: Declared, raw: object) -> Value:
    try:
        return setting.read(raw)
    except UnitError as error:
        raise UsageError(f"{setting.name}: {error}", hint=error.fix) from None
