"""A VM's `cgroup:` controls: what the kernel has on cgroup v2 beside a limit and a reservation.

The kernel's own names: `memory.high`, `memory.swap.max`, `memory.zswap.max` and
`memory.zswap.writeback` (Documentation/admin-guide/cgroup-v2.rst). Nothing of them has to be given
back: they go with the VM's group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from memlab.errors import HostError
from memlab.kernel.cgroup import MemoryGroup
from memlab.lab.values import Amount
from memlab.lab.vmspec import VmSpec
from memlab.units import format_size

Value = Amount | bool

FILES: Final[Mapping[str, str]] = {
    "high": "memory.high",
    "swap_max": "memory.swap.max",
    "zswap_max": "memory.zswap.max",
    "zswap_writeback": "memory.zswap.writeback",
}
"""The file of each control."""


def asked(vm: VmSpec) -> dict[str, Value]:
    """The controls that the lab file sets for this VM, by their names there."""
    found = {name: getattr(vm.cgroup, name) for name in FILES}
    return {name: value for name, value in found.items() if value is not None}


def turn(group: MemoryGroup, name: str, value: Value, *, vm: str, memory: int) -> str:
    """Set one control of `vm`, a percentage being of its `memory` (bytes); what it is now.

    HostError if this kernel does not have it, or keeps another value.
    """
    number = value.of(memory) if isinstance(value, Amount) else int(value)
    applied = group.set_control(FILES[name], str(number))
    if applied is None:
        raise HostError(
            f"this host has no {FILES[name]}, which cgroup.{name} of {vm} sets",
            hint="it takes cgroup v2 and a kernel that has it; or use --box",
        )
    if not applied.took:
        raise HostError(
            f"{applied.path} did not take {applied.asked!r}; it says {applied.got!r}",
            hint=f"take cgroup.{name} out of {vm}, or choose another value",
        )
    shown = format_size(number) if isinstance(value, Amount) else ("on" if value else "off")
    return f"{FILES[name]} {shown}"
