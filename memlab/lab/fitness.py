"""Whether this host has what a lab uses, looked at before anything is changed.

The lab's own `needs:` are found by doing, as doctor does it. What its mechanisms turn, and where
its cgroup and its swap file go, is only looked at, so that an ordinary user's `--dry-run` says it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from memlab.errors import HostError
from memlab.kernel import cgroup, swap
from memlab.kernel.files import HOST, Roots, is_read_only
from memlab.kernel.finding import Feature
from memlab.kernel.probe import probe
from memlab.kernel.qemu import require_qemu
from memlab.lab import controls
from memlab.lab.plan import Plan, compresses
from memlab.lab.spec import Device, Lab
from memlab.vm.base import Backend

ESSENTIAL: Final = (Feature.ROOT, Feature.MEMORY, Feature.MEMORY_CGROUP)
"""What every lab of process VMs needs."""
_CONTAINER: Final = (
    "in a container: docker run --privileged --cgroupns=host; "
    "elsewhere run memlab on the host itself, or in a VM (see the Vagrantfile)"
)


def wanted(lab: Lab) -> frozenset[Feature]:
    """What the host must have for this lab: its `needs:`, and what its mechanisms use."""
    qemu = {Feature.QEMU} if _has_qemu(lab) else set()
    return frozenset(ESSENTIAL) | frozenset(_named(lab)) | frozenset(_of_mechanisms(lab)) | qemu


def _named(lab: Lab) -> tuple[Feature, ...]:
    """What the lab file asks for in so many words."""
    network = (Feature.NETWORK,) if lab.network else ()
    version = (Feature.CGROUP_V2,) if any(map(controls.asked, lab.vms)) else ()
    return tuple(dict.fromkeys((*lab.needs, *network, *version)))


def _has_qemu(lab: Lab) -> bool:
    return any(vm.backend is Backend.QEMU for vm in lab.vms)


def _of_mechanisms(lab: Lab) -> Iterator[Feature]:
    if lab.mechanisms.tps.enabled:
        yield Feature.KSM
    if compresses(lab):
        yield Feature.ZSWAP
    if lab.active.monitors:
        yield Feature.DAMON
    if lab.host.swap is not None and lab.mechanisms.swap.enabled:
        yield Feature.ZRAM if lab.host.swap.device is Device.ZRAM else Feature.SWAP_FILE


def refuse_unfit(lab: Lab, plan: Plan, *, roots: Roots = HOST) -> None:
    """HostError with the reason and the repair if this host cannot run `lab`. Changes nothing."""
    if _has_qemu(lab):
        require_qemu()
    _must_be_writable(plan, roots)
    _must_hold_swap(plan, roots)
    folder = plan.swap_file.parent if plan.swap_file else None
    if not _named(lab):
        return
    for found in probe(roots, folder=folder, only=_named(lab)):
        if found.works is False:
            raise HostError(
                f"this lab needs {found.feature}, which is missing here: {found.reason}",
                hint=found.repair or f"see memlab doctor; or take {found.feature} out of the file",
            )


def _must_be_writable(plan: Plan, roots: Roots) -> None:
    """Knobs and cgroups on mounts that somebody can write to."""
    group = cgroup.lab_group("probe", roots)
    for place in (group.path.parent, group.unified_path and group.unified_path.parent):
        if place and is_read_only(place):
            raise HostError(
                f"{place} is mounted read-only: no cgroup can be made, and no lab be limited",
                hint=f"{_CONTAINER}; or: mount -o remount,rw {roots.cgroup}",
            )
    for change in plan.changes:
        if change.needed and is_read_only(change.path):
            raise HostError(
                f"{change.path} is on a read-only mount, and has to become {change.new}",
                hint=_CONTAINER,
            )


def _must_hold_swap(plan: Plan, roots: Roots) -> None:
    """A folder that is there, on a filesystem that can hold a swap file; or zram."""
    if plan.swap_file is not None:
        folder = plan.swap_file.parent
        if not folder.is_dir():
            raise HostError(
                f"the swap file's folder {folder} does not exist",
                hint=f"make it: mkdir -p {folder}; or name another with host.swap.path",
            )
        swap.must_hold(folder, roots)
    elif plan.swap_size and not _zram(roots).exists():
        raise HostError(
            "there is no zram on this host, which host.swap.device asks for",
            hint="load it: modprobe zram; or write host.swap.device: file",
        )


def _zram(roots: Roots) -> Path:
    # Only looked at: reading it makes a device.
    return roots.sys / "class/zram-control/hot_add"
