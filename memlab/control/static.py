"""`static` and `none`: the timeline alone, and nothing at all.

Both decide nothing by themselves. `static` leaves the mechanisms as the lab file switched them on;
with `none` even page sharing stays off, so that a run shows what the kernel does unasked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memlab.control.policy import Decision, LeftAlone, Mechanism, View
from memlab.control.settings import Scales


@dataclass(frozen=True, slots=True)
class NoSettings:
    """These policies have none."""


class Static:
    """The timeline alone acts."""

    name: ClassVar[str] = "static"
    settings_type: ClassVar[type] = NoSettings
    reason: ClassVar[str] = "this policy leaves all to the timeline"

    def __init__(self, settings: NoSettings | None = None) -> None:
        self.settings = settings or NoSettings()
        self.scales = Scales()

    def decide(self, _view: View) -> Decision:
        """No action, for the one reason."""
        return Decision(
            self.name, left_alone=tuple(LeftAlone(which, self.reason) for which in Mechanism)
        )


class Nothing(Static):
    """Nobody acts, and sharing stays off."""

    name: ClassVar[str] = "none"
    reason: ClassVar[str] = "no policy"
