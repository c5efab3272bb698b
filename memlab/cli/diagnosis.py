"""What `memlab doctor` says, before it is printed: the findings, the labs, the advice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from memlab.cli.asroot import only_users_site, package, typed_as_root
from memlab.kernel.finding import AS_ROOT, Feature, Finding
from memlab.units import format_size

if TYPE_CHECKING:
    from memlab.lab.spec import Lab

AS_ROOT_WORDS: Final = "as root: "
"""How the repair of what only root can find out begins; the command follows."""
TITLES: Final[Mapping[str, tuple[str, str]]] = {
    Feature.MACHINE: ("the machine", ""),
    Feature.ROOT: ("root's rights", ""),
    Feature.MEMORY: ("memory for a lab", "/proc/meminfo"),
    Feature.MEMORY_CGROUP: ("memory limits for groups", "/sys/fs/cgroup"),
    Feature.CGROUP_KILL: ("ending a group at once", "cgroup.kill"),
    Feature.KSM: ("page sharing", "/sys/kernel/mm/ksm"),
    Feature.ZSWAP: ("compression", "/sys/module/zswap"),
    Feature.COMPRESSORS: ("ways to compress", "/proc/crypto"),
    Feature.SWAP_FILE: ("swapping to a file", "/proc/swaps"),
    Feature.ZRAM: ("swapping to memory", "/sys/class/zram-control"),
    Feature.THP: ("huge pages", "transparent_hugepage/enabled"),
    Feature.PSI: ("time lost to pressure", "/proc/pressure/memory"),
    Feature.DELAYS: ("delays of each VM", "kernel.task_delayacct"),
    Feature.PAGEMAP_SCAN: ("quick page counts", "/proc/PID/pagemap"),
    Feature.FRAME_NUMBERS: ("frame by frame counts", "/proc/PID/pagemap"),
    Feature.PAGEOUT: ("pushing a VM's pages out", "process_madvise(2)"),
    Feature.CGROUP_V2: ("cgroup v2", "/sys/fs/cgroup"),
    Feature.VM_ZSWAP: ("compression, VM by VM", "memory.zswap.current"),
    Feature.MGLRU: ("multi-generational LRU", "/sys/kernel/mm/lru_gen"),
    Feature.DAMON: ("data access monitor", "/sys/kernel/mm/damon"),
    Feature.KVM: ("fast QEMU VMs", "/dev/kvm"),
    Feature.QEMU: ("QEMU VMs", "qemu-system-x86_64"),
    Feature.NETWORK: ("a network of the lab's", "/dev/net/tun"),
    Feature.OTHERS: ("nobody else at the knobs", ""),
}
"""In plain words, and where the kernel has it."""


@dataclass(frozen=True, slots=True)
class LabFit:
    """Whether a bundled lab can run here; `runs` is None if only root could tell."""

    name: str
    runs: bool | None
    missing: tuple[Feature, ...]
    unknown: tuple[Feature, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that `doctor` has found."""

    machine: str
    findings: tuple[Finding, ...]
    labs: tuple[LabFit, ...]
    notes: tuple[str, ...]

    @property
    def can_run(self) -> bool:
        """Whether nothing is known that keeps labs of process VMs from running here."""
        from memlab.lab.fitness import ESSENTIAL

        return all(one.works is not False for one in self.findings if one.feature in ESSENTIAL)


def diagnose(*, deep: bool = False) -> Diagnosis:
    """Find everything out; `deep` needs root and turns knobs for a moment."""
    from memlab.kernel.probe import probe, probe_deep

    found = {one.feature: one for one in probe(folder=swap_folder())}
    if deep:
        found |= {one.feature: one for one in probe_deep()}
    findings = tuple(_as_typed(one) for one in found.values())
    return Diagnosis(_machine(), findings, tuple(_labs(findings)), tuple(_notes(findings)))


def _as_typed(one: Finding) -> Finding:
    """With the commands in its repair as they can be typed here: sudo may not find `memlab`."""
    words = ["doctor"]
    if one.repair == "memlab doctor --deep":
        words.append("--deep")
    elif one.repair != AS_ROOT:
        return one
    return replace(one, repair=f"{AS_ROOT_WORDS}{typed_as_root(*words)}")


def swap_folder() -> Path:
    """Where a swap file would lie."""
    from memlab.lab.plan import SWAP_DIRECTORIES

    fit = (path for path in SWAP_DIRECTORIES if path.is_dir() and os.access(path, os.W_OK))
    return next(fit, Path.cwd())


def _machine() -> str:
    import psutil

    cores = psutil.cpu_count() or 0
    swap = psutil.swap_memory().total
    return ", ".join(
        (
            f"Linux {os.uname().release}, {os.uname().machine}",
            f"{cores} {'processor' if cores == 1 else 'processors'}",
            f"{format_size(psutil.virtual_memory().total)} of memory",
            f"{format_size(swap)} of swap" if swap else "no swap of its own",
        )
    )


def _labs(findings: Sequence[Finding]) -> Iterator[LabFit]:
    """Each bundled lab held against what was found, its budget against the memory there is."""
    import psutil

    from memlab.lab.load import bundled, load

    available = psutil.virtual_memory().available
    for path in bundled():
        yield lab_fit(load(path).lab, findings, available)


def lab_fit(lab: Lab, findings: Sequence[Finding], available: int) -> LabFit:
    """One lab held against what was found, its budget against the `available` bytes."""
    from memlab.lab.admission import sums
    from memlab.lab.fitness import wanted

    works = {one.feature: one.works for one in findings}
    missing = {name for name in wanted(lab) if works.get(name) is False}
    if not sums(lab, available).host_has_room:
        missing.add(Feature.MEMORY)
    unknown = {name for name in wanted(lab) if works.get(name) is None} - missing
    # Root's rights are asked for by `up`, so they alone are no reason to doubt.
    doubts = unknown - {Feature.ROOT}
    runs = False if missing else (None if doubts else True)
    return LabFit(lab.name, runs, tuple(sorted(missing)), tuple(sorted(doubts)))


def _notes(findings: Sequence[Finding]) -> Iterator[str]:
    """Kinds of VMs and machines, and the traps of how memlab was installed."""
    by_name = {one.feature: one for one in findings}
    if any(one.repair.startswith(AS_ROOT_WORDS) for one in findings):
        yield f"what is not known here, root can find out: {typed_as_root('doctor')}"
    yield "recordings, reports and checks of lab files need nothing of all this, and no root"
    kvm = by_name[Feature.KVM].works
    if kvm:
        yield "VMs of QEMU would run at full speed (KVM)"
    elif kvm is None:
        yield "whether VMs of QEMU would run at full speed (KVM) cannot be told as this user"
    else:
        yield "VMs of QEMU would be emulated (TCG), about ten times slower: KVM is of no use here"
    yield from _known_limits(by_name[Feature.MACHINE].reason)
    yield from _traps()


_LIMITS: Final = {
    "WSL2": "WSL2: Microsoft's kernel has often no KSM and no zswap; use a VM (see Vagrantfile)",
    "in a container": (
        "a container shares the host's knobs: it needs --privileged, swap stays the host's, and a "
        "read-only /sys or /sys/fs/cgroup keeps labs from running"
    ),
    "a virtual machine": (
        "a cloud VM or other VM: page sharing, compression and swap are this VM's own and work as "
        "on hardware; KVM works only with nested virtualisation; neighbours blur times, not counts"
    ),
}


def _known_limits(machine: str) -> Iterator[str]:
    for sign, words in _LIMITS.items():
        if sign in machine:
            yield words


def _traps() -> Iterator[str]:
    """sudo does not look where pipx, uv and `pip --user` install (~/.local)."""
    if os.geteuid() == 0:
        return
    if only_users_site():
        yield (
            f"memlab is installed for this user alone ({package()}), so that root's Python cannot "
            "find it and no lab can be started: install it with pipx install memlab"
        )
    here = shutil.which("memlab")
    if here and Path(here).parent.is_relative_to(Path.home()):
        yield (
            f"`sudo memlab` does not find {here}; type `memlab up`, which asks sudo by itself, or "
            f"{typed_as_root('up', 'quickstart')}"
        )
