"""One run as a comparison sees it: the figures of its measured window, from the recording alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from memlab.control.policy import Mechanism
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.record.series import Source
from memlab.report import facts
from memlab.report.why import LEFT_ALONE
from memlab.report.window import Window
from memlab.units import PAGE

_SAVED: Final = {
    Mechanism.SHARING: "saved_sharing",
    Mechanism.BALLOON: "saved_balloon",
    Mechanism.COMPRESSION: "saved_compression",
    Mechanism.SWAP: "saved_swap",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over a run's measured window; what the run does not have is absent or None.

    `work` is operations per second of each VM that works. `saved` is bytes by mechanism. `p99` is
    that of the slowest VM, seconds. `swapped_in` counts pages from the device, per second.
    `out_of_memory` counts the guests in which an application got no frame: their work stood still.
    `vm_cpu` is the CPU time of all VMs' processes, part of one core. `memlab` is the version that
    recorded the run, `code` its code where that is known (`study.code`). `void` says why the run
    cannot be compared; empty if it can.
    """

    policy: str
    scales: tuple[float, float]
    lab: str
    work: Mapping[str, float]
    saved: Mapping[Mechanism, float]
    p99: float | None = None
    major_faults: float | None = None
    swapped_in: float | None = None
    stalled: float | None = None
    ksmd_cpu: float | None = None
    observer_cpu: float | None = None
    vm_cpu: float | None = None
    used: float | None = None
    actions: int = 0
    out_of_memory: int = 0
    memlab: str = ""
    code: str = ""
    void: str = ""

    @property
    def saved_in_all(self) -> float | None:
        """Bytes that all mechanisms saved together; None if one of them is not known."""
        known = [self.saved.get(mechanism) for mechanism in Mechanism]
        return None if None in known else sum(value or 0.0 for value in known)

    @property
    def cpu(self) -> float | None:
        """What the mechanisms and those who watch them take, part of one core: ksmd, and memlab's
        own processes. None if one of them is not known."""
        if self.ksmd_cpu is None or self.observer_cpu is None:
            return None
        return self.ksmd_cpu + self.observer_cpu

    @property
    def maker(self) -> str:
        """Who made the run: memlab's version, and its code where that is known."""
        return f"memlab {self.memlab}{self.code and f', code {self.code}'}" if self.memlab else ""

    @property
    def total(self) -> float:
        """Operations per second of all VMs."""
        return sum(self.work.values())


def measured(source: Source) -> Measured:
    """The figures of one run."""
    window = Window.of(source)
    policy = facts.mapping(source.manifest.get("policy"))
    work = {vm: window.mean(Entity.VM, "operations", vm) for vm in source.vms}
    saved = {mechanism: window.at_deep(name) for mechanism, name in _SAVED.items()}
    swapped_in = window.mean(Entity.LAB, "swap_in")
    return Measured(
        policy=facts.text_of(policy.get("name")) or "unknown",
        scales=(
            facts.number(policy.get("time_scale")) or 1.0,
            facts.number(policy.get("size_scale")) or 1.0,
        ),
        lab=facts.lab_name(source),
        work={vm: value for vm, value in work.items() if value},
        saved={mechanism: value for mechanism, value in saved.items() if value is not None},
        p99=window.slowest(),
        major_faults=window.over_vms("major_faults", sum),
        swapped_in=None if swapped_in is None else swapped_in / PAGE,
        stalled=window.mean(Entity.LAB, "stall_some"),
        ksmd_cpu=window.mean(Entity.LAB, "ksmd_cpu"),
        observer_cpu=window.mean(Entity.LAB, "observer_cpu"),
        vm_cpu=window.over_vms("cpu", sum),
        used=window.at_deep("used"),
        actions=sum(choice.action != LEFT_ALONE for choice in source.choices()),
        out_of_memory=len({one.vm for one in source.events() if one.kind == "out-of-memory"}),
        memlab=facts.text_of(facts.mapping(source.manifest.get("versions")).get("memlab")) or "",
        void=_void(source),
    )


def _void(source: Source) -> str:
    """Why this run says nothing: a kill for memory, lost pages, a policy that failed, no end."""
    standing = facts.standing(source)
    if failed := [event for event in source.events() if event.kind == "policy-failed"]:
        return facts.plain(str(failed[0].data.get("why", "the policy failed")))
    if standing.outcome == "invalid" or standing.ended != "finished":
        return "; ".join(standing.reasons) or standing.ended
    bad = [reason for reason in standing.reasons if "lost or changed" in reason]
    return bad[0] if bad else ""


def of_run(run: Derived) -> Measured:
    """The figures of an open recording, which is closed then."""
    with run:
        return measured(run)
