"""Whether a lab fits into this host: one rule, its sums printed.

Two sums have to hold, and are refused with exit 3 before anything is changed:

    budget                      ≤ MemAvailable − 512 MiB     so that the host itself is never short
    Σ configured + overhead     ≤ budget + the lab's swap    so that the worst case (all sharing
                                                             broken, nothing ballooned) has a place

The budget holds the compressed pool. `--i-know` lets the second rule go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memlab.errors import AdmissionError
from memlab.lab.spec import Lab
from memlab.units import MIB, format_size

HOST_FLOOR: Final = 512 * MIB
"""What is left to the host, bytes."""
VM_OVERHEAD: Final = 3 * MIB // 2
"""Own memory of one process VM at most, bytes; `benchmarks/agent.py` measures it."""


@dataclass(frozen=True, slots=True)
class Sums:
    """The two sums, bytes."""

    available: int
    budget: int
    swap: int
    configured: int
    overhead: int

    @property
    def host_has_room(self) -> bool:
        """Whether the budget leaves the host its floor."""
        return self.budget <= self.available - HOST_FLOOR

    @property
    def worst_case_fits(self) -> bool:
        """Whether every page of every VM has a place."""
        return self.configured + self.overhead <= self.budget + self.swap

    def lines(self) -> tuple[str, str]:
        """Both sums as text."""
        return (
            f"host budget {format_size(self.budget)} ≤ available {format_size(self.available)} "
            f"− {format_size(HOST_FLOOR)} for the host",
            f"configured {format_size(self.configured)} + overhead {format_size(self.overhead)} "
            f"≤ budget {format_size(self.budget)} + swap {format_size(self.swap)}",
        )


def sums(lab: Lab, available: int) -> Sums:
    """The sums of `lab` on a host with `available` bytes of MemAvailable."""
    swap = lab.host.swap.size if lab.host.swap and lab.mechanisms.swap.enabled else 0
    return Sums(
        available=available,
        budget=lab.host.memory,
        swap=swap,
        configured=lab.configured,
        overhead=VM_OVERHEAD * len(lab.vms),
    )


def admit(found: Sums, *, i_know: bool = False) -> None:
    """AdmissionError with the sum that does not hold, unless `i_know` overrides the second."""
    host, worst = found.lines()
    if not found.host_has_room:
        raise AdmissionError(
            f"the host would be short of memory: {host} does not hold",
            hint="take a smaller host.memory, or end what uses the host's memory",
        )
    if not found.worst_case_fits and not i_know:
        raise AdmissionError(
            f"the VMs might not fit when nothing is shared: {worst} does not hold",
            hint="take a larger host.swap.size or fewer VMs; --i-know runs it all the same",
        )
