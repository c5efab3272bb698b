"""Sharing while it pays: how fast ksmd runs under `best`."""

from __future__ import annotations

from typing import Final

from memlab.control.best_settings import BestSettings
from memlab.control.policy import LeftAlone, Mechanism, Share, View
from memlab.units import format_size

_LATELY: Final = 3.0
"""Seconds for which a gain of sharing counts, and for which it is given a chance at first."""


class Sharing:
    """It remembers the lab's own pace, what had been saved a second ago, and the last gain."""

    def __init__(self) -> None:
        self._pace: int | None = None
        self._began = 0.0
        self._saved, self._seen = 0, 0.0
        self._gained: float | None = None

    def decide(self, view: View, settings: BestSettings) -> Share | LeftAlone:
        """On, at a pace that pays."""
        if Mechanism.SHARING not in view.mechanisms:
            return LeftAlone(Mechanism.SHARING, "switched off in the lab file")
        if self._pace is None:
            self._pace, self._began = view.pages_to_scan or 100, view.time
        factor, word = self._worth(view, settings)
        pages = max(1, round(self._pace * factor))
        why = f"{format_size(view.saved_sharing or 0)} saved, {word}"
        if view.sharing_on and pages == view.pages_to_scan:
            return LeftAlone(Mechanism.SHARING, f"at its pace: {why}")
        return Share(True, why, pages)

    def _worth(self, view: View, settings: BestSettings) -> tuple[float, str]:
        """How fast ksmd should run, as a factor of the lab's pace, and why: by what it gains."""
        saved = view.saved_sharing or 0
        seconds = view.time - self._seen
        if seconds >= 1:
            if saved - self._saved >= settings.growth * view.budget * seconds:
                self._gained = view.time
            self._saved, self._seen = saved, view.time
        if self._gained is not None and view.time - self._gained <= _LATELY:
            return settings.fast, "and it still gains"
        if view.time - self._began <= _LATELY:
            return 1.0, "and it has just begun"
        return 1 / max(1.0, settings.slow), "and it gains no more"
