"""KVM where it really runs a guest, else TCG."""

from __future__ import annotations

from functools import cache
from typing import Final

from memlab.errors import HostError
from memlab.kernel import kvm
from memlab.vm.hardware import Accelerator

AUTO: Final = "auto"


@cache
def accelerator(wanted: str = AUTO) -> Accelerator:
    """KVM if a virtual CPU has really run here, at the speed of hardware; else TCG.

    That /dev/kvm can be opened proves nothing (`kernel.kvm`). HostError if KVM is asked for by
    name and does not run.
    """
    if wanted == Accelerator.TCG:
        return Accelerator.TCG
    found = kvm.measure()
    if found is not None and found.usable:
        return Accelerator.KVM
    if wanted == Accelerator.KVM:
        raise HostError(
            "KVM does not run here", hint="memlab doctor says why; accel: tcg emulates the CPU"
        )
    return Accelerator.TCG
