"""What a lab will change on this host, old → new, before anything is changed.

`up` prints it before it asks for root, `--dry-run` prints it and stops, and the session turns
exactly these knobs: there is one list. What the VMs' memory itself needs (cgroups, the swap file)
is in it too, because it is the reader's machine.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.control.userpolicy import is_user_policy
from memlab.errors import HostError, KernelError
from memlab.kernel import damon
from memlab.kernel.files import HOST, Roots, chosen, read_text, same_value
from memlab.kernel.ksm import merges_whole_processes
from memlab.lab.spec import Compression, Device, Lab, Tps
from memlab.units import MIB, format_size

SWAP_DIRECTORIES: Final = (Path("/var/lib/memlab"), Path("/var/tmp"))
"""Where a swap file is put when the lab file names no place: disks, not memory."""


@dataclass(frozen=True, slots=True)
class Change:
    """One knob of the whole host: its value now, the lab's, and what it is turned for."""

    path: Path
    old: str
    new: str
    why: str
    wish: bool = False
    """The lab goes on if the kernel refuses it."""

    @property
    def needed(self) -> bool:
        """Whether the knob has another value now."""
        return not same_value(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `up` will do to the host. `swap_file` is None for zram or without swap."""

    changes: tuple[Change, ...]
    swap_file: Path | None
    swap_size: int
    sharing_from_start: bool
    policy_file: str = ""
    """A policy of the user's own: code that will run with memlab's rights."""
    network: bool = False
    unshared_programs: bool = False
    """Programs (`command:`) whose pages this kernel cannot share, though the lab asks for it."""

    def lines(self) -> Iterator[str]:
        """The plan as sentences."""
        yield "cgroups memlab-<run>/… are made below memlab's own, and removed"
        if self.swap_file:
            yield f"a swap file of {format_size(self.swap_size)} in {self.swap_file}, removed"
        elif self.swap_size:
            yield f"a zram swap device of {format_size(self.swap_size)}, removed"
        if self.network:
            yield "a network of the lab's own, in a namespace that leads nowhere else, removed"
        if self.policy_file:
            yield f"the policy {self.policy_file} runs with memlab's rights, as root"
        if self.unshared_programs:
            yield "the pages of its programs are not shared: that needs Linux 6.4 or newer"
        for change in self.changes:
            if change.needed:
                yield f"{change.path}: {change.old} → {change.new} ({change.why})"


def plan(lab: Lab, *, roots: Roots = HOST) -> Plan:
    """The plan of `lab` on this host. HostError: a mechanism that it asks for is not here."""
    swap = lab.host.swap if lab.mechanisms.swap.enabled else None
    sharing = lab.mechanisms.tps.enabled and lab.policy.name == "static"
    changes: list[Change] = []
    if lab.mechanisms.tps.enabled:
        changes += _ksm(lab.mechanisms.tps, sharing, roots)
    if compresses(lab):
        changes += _zswap(lab.mechanisms.compression, roots)
    if lab.active.monitors:
        changes.append(_damon(roots))
    changes += _knob(
        roots.proc / "sys/kernel/task_delayacct", "1", "delays per VM are measured", needed=False
    )
    return Plan(
        changes=tuple(changes),
        swap_file=_swap_file(swap.path) if swap and swap.device is Device.FILE else None,
        swap_size=swap.size if swap else 0,
        sharing_from_start=sharing,
        policy_file=lab.policy.name if is_user_policy(lab.policy.name) else "",
        network=lab.network,
        unshared_programs=lab.mechanisms.tps.enabled
        and any(vm.command for vm in lab.vms)
        and not merges_whole_processes(),
    )


def compresses(lab: Lab) -> bool:
    """Whether zswap will take pages: it needs the slots of the lab's swap area."""
    mechanisms = lab.mechanisms
    return mechanisms.compression.enabled and mechanisms.swap.enabled and lab.host.swap is not None


def _ksm(tps: Tps, run: bool, roots: Roots) -> Iterator[Change]:
    base = roots.ksm
    if read_text(base / "run") is None:
        raise HostError(
            "this kernel has no KSM, so pages cannot be shared",
            hint="switch it off for this run: --set mechanisms.tps=off (see memlab doctor)",
        )
    merged = int(read_text(base / "pages_shared") or 0)
    # An advisor chooses pages_to_scan itself and refuses others (since 6.8, mm/ksm.c).
    yield from _knob(base / "advisor_mode", "none", "the lab sets the pace itself", needed=False)
    yield from _knob(base / "pages_to_scan", str(tps.pages_to_scan), "pace of page sharing")
    yield from _knob(base / "sleep_millisecs", str(round(tps.sleep * 1000)), "pace of page sharing")
    zero = "1" if tps.use_zero_pages else "0"
    yield from _knob(base / "use_zero_pages", zero, "where empty pages go", needed=False)
    # A page that did not merge sits out up to eight passes of nine (since 6.7, mm/ksm.c); two equal
    # pages whose turns differ never meet, whatever the pace (docs/measuring.md).
    smart = tps.smart_scan
    yield from _knob(
        base / "smart_scan", str(int(smart)), "every pass looks at every page", needed=smart
    )
    if tps.max_page_sharing is not None:
        if merged:
            raise HostError(
                f"max_page_sharing cannot be set while {merged} pages on this host are merged",
                hint="leave it out of the lab file, or end the programs that share pages",
            )
        yield from _knob(
            base / "max_page_sharing", str(tps.max_page_sharing), "asked for by the lab file"
        )
    yield from _knob(base / "run", "1" if run else "0", "page sharing")


def _zswap(settings: Compression, roots: Roots) -> Iterator[Change]:
    base = roots.zswap
    if read_text(base / "enabled") is None:
        raise HostError(
            "this kernel has no zswap, so pages cannot be compressed",
            hint="switch it off for this run: --set mechanisms.compression=off",
        )
    # Enabled first: before the first time ever the kernel takes any word as a compressor.
    yield from _knob(base / "enabled", "Y", "compression")
    # zbud, 6.1's default, puts two pages into a frame at most, and a group is charged their lengths
    # only: 58 MiB taken for 28 charged (docs/measuring.md). zsmalloc may be a module.
    yield from _knob(
        base / "zpool", "zsmalloc", "the pool takes what is charged", needed=False, wish=True
    )
    if settings.compressor:
        yield from _knob(base / "compressor", settings.compressor, "asked for by the lab file")
    # Reading ahead decompresses eight pages for the one that was wanted, and compresses the other
    # seven again: 39,000 operations/s with the default of 3, 252,000 without (docs/measuring.md).
    yield from _knob(
        roots.proc / "sys/vm/page-cluster", "0", "no reading ahead of compressed pages"
    )


def _damon(roots: Roots) -> Change:
    """The host's one list of kdamonds, if nobody has it. Only root can see: others see at `up`."""
    try:
        damon.must_be_free(roots)
    except KernelError as error:
        if error.errno != errno.EACCES:
            raise
    return Change(damon.list_path(roots), "0", "1", "DAMON watches the VMs")


def _knob(
    path: Path, new: str, why: str, *, needed: bool = True, wish: bool = False
) -> Iterator[Change]:
    old = read_text(path)
    if old is not None:
        yield Change(path, chosen(old), new, why, wish)
    elif needed:
        raise HostError(f"this kernel has no {path}", hint="see memlab doctor")


def _swap_file(wanted: str | None) -> Path:
    if wanted is not None:
        return Path(wanted) / "memlab.swap"
    for directory in SWAP_DIRECTORIES:
        if directory.is_dir() and os.access(directory, os.W_OK):
            return directory / "memlab.swap"
    return SWAP_DIRECTORIES[-1] / "memlab.swap"


def check_disk(plan: Plan) -> None:
    """HostError if the swap file's disk has no room for it and 512 MiB to spare."""
    if plan.swap_file is None:
        return
    free = shutil.disk_usage(plan.swap_file.parent).free
    if free < plan.swap_size + 512 * MIB:
        raise HostError(
            f"{plan.swap_file.parent} has {format_size(free)} free, "
            f"the swap file takes {format_size(plan.swap_size)}",
            hint="name another place with host.swap.path, or take a smaller host.swap.size",
        )
