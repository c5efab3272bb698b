"""Whether a lab fits into this host: the sums, printed.

These have to hold, and are refused with exit 3 before anything is changed:

    budget                      ≤ MemAvailable − 512 MiB     so that the host itself is never short
    Σ reservation + overhead    ≤ budget                     so that what is promised can be kept
    Σ configured + overhead     ≤ budget + the lab's swap    so that the worst case (all sharing
                                                             broken, nothing ballooned) has a place

and, under a policy of ESX, its own admission control (OSDI 2002, §6; a VM whose swap file finds no
room is not powered on):

    Σ (configured − reservation) ≤ the lab's swap            so that all that is not reserved could
                                                             be swapped out

The budget holds the compressed pool. `--i-know` lets the last two go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from memlab.control.esx import Esx15, Esx41, Esxi5, Esxi6
from memlab.errors import AdmissionError
from memlab.lab.spec import Lab, VmSpec
from memlab.units import MIB, format_size
from memlab.vm.base import Backend

HOST_FLOOR: Final = 512 * MIB
"""What is left to the host, bytes."""
VM_OVERHEAD: Final = 3 * MIB // 2
"""Own memory of one process VM at most, bytes; `benchmarks/agent.py` measures it."""
QEMU_OVERHEAD: Final = 32 * MIB
"""Of a QEMU VM that starts from a saved state: QEMU itself, its translations; docs/qemu.md."""
BOOT_OVERHEAD: Final = 80 * MIB
"""Of one that boots: its kernel's code is translated too."""
_ESX: Final = frozenset(policy.name for policy in (Esx15, Esx41, Esxi5, Esxi6))
"""A policy of the user's own may be called `esx_mine.py:X`; it has rules of its own."""


@dataclass(frozen=True, slots=True)
class Sum:
    """One sum: what it says, whether it holds, what is wrong and what to do where it does not."""

    text: str
    holds: bool
    wrong: str
    fix: str
    waived_by_i_know: bool = False


@dataclass(frozen=True, slots=True)
class Sums:
    """The figures of all sums, bytes. `strict`: ESX's own rule holds too."""

    available: int
    budget: int
    swap: int
    configured: int
    overhead: int
    reserved: int = 0
    strict: bool = False

    @property
    def host_has_room(self) -> bool:
        """Whether the budget leaves the host its floor."""
        return self.budget <= self.available - HOST_FLOOR

    def all(self) -> Iterator[Sum]:
        """The sums in the order in which they are looked at."""
        budget, overhead = format_size(self.budget), format_size(self.overhead)
        swap, reserved = format_size(self.swap), format_size(self.reserved)
        yield Sum(
            f"host budget {budget} ≤ available {format_size(self.available)} "
            f"− {format_size(HOST_FLOOR)} for the host",
            self.host_has_room,
            "the host would be short of memory",
            "take a smaller host.memory, or end what uses the host's memory",
        )
        if self.reserved:
            yield Sum(
                f"reservations {reserved} + overhead {overhead} ≤ budget {budget}",
                self.reserved + self.overhead <= self.budget,
                "what is reserved cannot be kept",
                "lower the reservations, or take a larger host.memory",
            )
        yield Sum(
            f"configured {format_size(self.configured)} + overhead {overhead} "
            f"≤ budget {budget} + swap {swap}",
            self.configured + self.overhead <= self.budget + self.swap,
            "the VMs might not fit when nothing is shared",
            "take a larger host.swap.size or fewer VMs; --i-know runs it all the same",
            waived_by_i_know=True,
        )
        if self.strict:
            yield Sum(
                f"configured {format_size(self.configured)} − reserved {reserved} ≤ swap {swap}",
                self.configured - self.reserved <= self.swap,
                "ESX starts no VM whose unreserved memory has no room in swap",
                "take a larger host.swap.size or reserve more; --i-know runs it all the same",
                waived_by_i_know=True,
            )

    def lines(self) -> tuple[str, ...]:
        """All sums as text."""
        return tuple(one.text for one in self.all())


def overhead_of(vm: VmSpec) -> int:
    """Own memory of the VM at most, bytes: what is not its guest's."""
    if vm.backend is Backend.PROCESS:
        return VM_OVERHEAD
    return BOOT_OVERHEAD if vm.boot or vm.image.path else QEMU_OVERHEAD


def sums(lab: Lab, available: int) -> Sums:
    """The sums of `lab` on a host with `available` bytes of MemAvailable."""
    swap = lab.host.swap.size if lab.host.swap and lab.mechanisms.swap.enabled else 0
    return Sums(
        available=available,
        budget=lab.host.memory,
        swap=swap,
        configured=lab.configured,
        overhead=sum(map(overhead_of, lab.vms)),
        reserved=sum(vm.reservation for vm in lab.vms),
        strict=lab.policy.name in _ESX,
    )


def admit(found: Sums, *, i_know: bool = False) -> None:
    """AdmissionError with the first sum that does not hold; `i_know` waives those that it may."""
    for one in found.all():
        if not one.holds and not (i_know and one.waived_by_i_know):
            raise AdmissionError(f"{one.wrong}: {one.text} does not hold", hint=one.fix)
