"""`ksmtuned`: page sharing alone, switched and paced by what the VMs have committed.

github.com/ksmtuned/ksmtuned, `ksmtuned.sh`: every 60 s; off while committed + threshold < total and
free > threshold; threshold = 20 % of RAM, at least 2 MiB. It keeps a number of pages of its own,
0 at first: +300 while free is below the threshold, else −50, in 64…1250. "Committed" is the sum of
the VMs' resident sizes. Switched off, merged pages stay merged. Its sleep (KSM_SLEEP_MSEC) is not
kept: see `paces.Ksm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memlab.control.paces import Every, Ksm, not_mine, share, sharing_rests
from memlab.control.policy import Action, Decision, LeftAlone, Mechanism, View
from memlab.control.settings import Scales, duration, number, percent, size
from memlab.units import MIB, format_size


@dataclass(frozen=True, slots=True)
class KsmtunedSettings:
    """The constants of ksmtuned.conf; KSM_THRES_CONST is in kB there."""

    interval: float = duration(60, "between two looks (KSM_MONITOR_INTERVAL)")
    threshold: float = percent(0.20, "free part of the budget below which it acts (KSM_THRES_COEF)")
    least: int = size(2 * MIB, "the threshold is at least this (KSM_THRES_CONST)")
    boost: float = number(300, "pages more a wake-up while short (KSM_NPAGES_BOOST)")
    decay: float = number(50, "pages fewer a wake-up else (KSM_NPAGES_DECAY)")
    fewest: float = number(64, "least pages a wake-up (KSM_NPAGES_MIN)")
    most: float = number(1250, "most pages a wake-up (KSM_NPAGES_MAX)")


class Ksmtuned:
    """The policy object; its memory is when it looked last, and its number of pages."""

    name: ClassVar[str] = "ksmtuned"
    settings_type: ClassVar[type] = KsmtunedSettings

    def __init__(self, settings: KsmtunedSettings | None = None) -> None:
        self.settings = settings or KsmtunedSettings()
        self.scales = Scales()
        self._every = Every()
        self._pages = 0

    def decide(self, view: View) -> Decision:
        """Look every interval; nothing but KSM is ever touched."""
        others = not_mine({Mechanism.SHARING}, "ksmtuned turns page sharing alone")
        if not self._every.due(view.time, self.settings.interval / self.scales.time):
            waits = LeftAlone(Mechanism.SHARING, "it looks again when its interval is over")
            return Decision("waits", left_alone=(waits, *others))
        found = self._share(view)
        if isinstance(found, LeftAlone):
            return Decision("looked", left_alone=(found, *others))
        return Decision("looked", (found,), others)

    def _share(self, view: View) -> Action | LeftAlone:
        s = self.settings
        threshold = max(int(s.threshold * view.budget), int(s.least / self.scales.size))
        committed = sum(vm.resident or 0 for vm in view.vms)
        why = (
            f"committed {format_size(committed)} + threshold {format_size(threshold)}, "
            f"budget {format_size(view.budget)}, free {format_size(view.free)}"
        )
        if sharing_rests(
            committed=committed, free=view.free, threshold=threshold, budget=view.budget
        ):
            return share(view, None, why)
        law = Ksm(s.boost, s.decay, s.fewest, s.most)
        self._pages = law.next_pages(self._pages, short=view.free < threshold)
        return share(view, self._pages, why)
