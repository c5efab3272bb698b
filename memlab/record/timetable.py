"""When samples are due: absolute deadlines, so that a late sample never makes the next one late.

A deadline that has passed unserved is a gap. It is counted, never made up for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Timetable:
    """Deadlines every `period` from `first` on. All times in one unit, any."""

    period: int
    due: int

    def __post_init__(self) -> None:
        if self.period <= 0:
            raise ValueError(f"not a period: {self.period}")

    def take(self, now: int) -> int:
        """Serve the deadline that is due; how many others have passed unserved before `now`."""
        passed = max(0, (now - self.due) // self.period)
        self.due += (passed + 1) * self.period
        return passed

    def not_before(self, moment: int) -> None:
        """Leave out, on purpose, the deadlines before `moment`: they are no gaps."""
        if moment > self.due:
            self.due += -(-(moment - self.due) // self.period) * self.period
