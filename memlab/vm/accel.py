"""KVM where it really runs a guest, else TCG."""

from __future__ import annotations

from functools import cache
from typing import Final

from memlab.errors import HostError
from memlab.kernel import kvm
from memlab.kernel.probe_host import why_no_kvm
from memlab.vm.hardware import Accelerator

AUTO: Final = "auto"


@cache
def _measured() -> kvm.KvmSpeed | None:
    return kvm.measure()


def why_not_kvm() -> str:
    """Why guests are emulated here; empty if they need not be."""
    found = _measured()
    if found is None:
        return "KVM can be tried on x86-64 only"
    return "" if found.usable else why_no_kvm(found, kvm.DEVICE)[0]


@cache
def accelerator(wanted: str = AUTO) -> Accelerator:
    """KVM if a virtual CPU has really run here, at the speed of hardware; else TCG.

    That /dev/kvm can be opened proves nothing (`kernel.kvm`). HostError if KVM is asked for by
    name and does not run.
    """
    if wanted == Accelerator.TCG:
        return Accelerator.TCG
    found = _measured()
    if found is not None and found.usable:
        return Accelerator.KVM
    if wanted == Accelerator.KVM:
        raise HostError(
            "KVM does not run here", hint="memlab doctor says why; tcg emulates the CPU"
        )
    return Accelerator.TCG
