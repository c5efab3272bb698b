"""What `doctor` finds: one mechanism, whether it works here, how that is known, how to mend it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from memlab.errors import KernelError, MemlabError


class Feature(StrEnum):
    """The names that `memlab doctor` prints, and that a lab file's `needs:` may use."""

    ROOT = "root"
    MEMORY = "memory"
    MEMORY_CGROUP = "memory-cgroup"
    CGROUP_KILL = "cgroup-kill"
    KSM = "ksm"
    ZSWAP = "zswap"
    COMPRESSORS = "compressors"
    SWAP_FILE = "swap-file"
    ZRAM = "zram"
    THP = "thp"
    PSI = "psi"
    DELAYS = "delays"
    PAGEMAP_SCAN = "pagemap-scan"
    FRAME_NUMBERS = "frame-numbers"
    CGROUP_V2 = "cgroup-v2"
    VM_ZSWAP = "vm-zswap"
    MGLRU = "mglru"
    DAMON = "damon"
    PAGEOUT = "pageout"
    KVM = "kvm"
    QEMU = "qemu"
    NETWORK = "network"
    MACHINE = "machine"
    OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Finding:
    """`works` is None where it cannot be told (not as this user, or not without `deep`).

    `how` says what was done to find it, `reason` what was seen, `repair` is a command or an
    action (empty if none is needed), `affects` the parts of a lab that need it.
    """

    feature: Feature
    works: bool | None
    how: str
    reason: str
    repair: str = ""
    affects: tuple[str, ...] = ()


AS_ROOT = "run memlab doctor as root"
"""Of what only root can find out. The command puts its own path in: sudo may not find `memlab`."""


def tried(
    feature: Feature,
    how: str,
    work: Callable[[], str],
    *,
    repair: str = "",
    affects: tuple[str, ...] = (),
    root: bool = True,
) -> Finding:
    """Do `work`, which says what was seen; what it raises becomes the reason why not.

    Without `root` a refusal for lack of rights proves nothing: then `works` is None.
    """
    try:
        return Finding(feature, True, how, work(), "", affects)
    except (MemlabError, OSError) as error:
        if not root and _is_refusal(error):
            return Finding(feature, None, how, "only root can find out", AS_ROOT, affects)
        reason = error.message if isinstance(error, MemlabError) else (error.strerror or str(error))
        hint = error.hint if isinstance(error, MemlabError) else ""
        return Finding(feature, False, how, reason, repair or hint, affects)


def _is_refusal(error: Exception) -> bool:
    code = error.errno if isinstance(error, KernelError | OSError) else None
    cause = error.__cause__
    if code is None and isinstance(cause, KernelError | OSError):
        code = cause.errno
    return code in (errno.EPERM, errno.EACCES)
