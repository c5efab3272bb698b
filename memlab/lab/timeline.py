"""Which steps of the timeline are due: by the clock, or because a condition holds.

Pure: it is given the time and the latest values, remembers what it has given out, and does
nothing itself. A step `at:` is due once, at the first tick that is not before it. A step `when:` is
due at the first tick at which its condition holds; with `once: off` at every tick at which it
holds, but not within `cooldown` of the time before. An inconclusive condition does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memlab.lab.spec import Step
from memlab.record.condition import Condition, Latest, Outcome, parse
from memlab.record.series import Event


@dataclass(frozen=True, slots=True)
class Due:
    """A step to take now; `index` is its place in the file, `why` goes into the recording."""

    index: int
    step: Step
    why: str


class Timeline:
    """The steps of one run. Raises ConditionError for a `when` that cannot be read."""

    def __init__(self, steps: Sequence[Step], *, vms: Sequence[str]) -> None:
        self._steps = tuple(steps)
        self._vms = tuple(vms)
        self._taken: dict[int, float] = {}
        self._conditions: dict[int, Condition] = {
            index: parse(step.when, vms=vms, instant=True)
            for index, step in enumerate(steps)
            if step.when is not None
        }

    def due(self, now: float, latest: Latest, *, events: Sequence[Event] = ()) -> tuple[Due, ...]:
        """The steps to take at `now` (seconds since the run began): those by the clock first, in
        the order of their times, then those by conditions, in the order of the file."""
        due = [self._by_clock(index, now) for index in self._in_time()]
        due += [self._by_condition(index, now, latest, events) for index in self._conditions]
        found = tuple(step for step in due if step is not None)
        self._taken |= dict.fromkeys((step.index for step in found), now)
        return found

    @property
    def waiting(self) -> tuple[Step, ...]:
        """The steps that have not been taken yet, in the order of the file."""
        return tuple(step for index, step in enumerate(self._steps) if index not in self._taken)

    def _in_time(self) -> list[int]:
        timed = [index for index, step in enumerate(self._steps) if step.at is not None]
        return sorted(timed, key=lambda index: self._steps[index].at or 0.0)

    def _by_clock(self, index: int, now: float) -> Due | None:
        step = self._steps[index]
        if index in self._taken or step.at is None or step.at > now:
            return None
        return Due(index, step, f"at {step.at:g} s")

    def _by_condition(
        self, index: int, now: float, latest: Latest, events: Sequence[Event]
    ) -> Due | None:
        step, before = self._steps[index], self._taken.get(index)
        if before is not None and (step.once or now - before < step.cooldown):
            return None
        verdict = self._conditions[index].now(latest, vms=self._vms, events=events)
        return Due(index, step, verdict.why) if verdict.outcome is Outcome.PASS else None
