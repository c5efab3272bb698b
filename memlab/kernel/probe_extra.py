"""What some kernels have and labs may ask for: looked at, nothing is turned."""

from __future__ import annotations

from memlab.errors import HostError
from memlab.kernel import cgroup, damon
from memlab.kernel.cgroup import Layout, parse_stat
from memlab.kernel.files import Roots, read_bytes, read_text
from memlab.kernel.finding import Feature, Finding, tried

_ACCESSES = 0x1
"""Of lru_gen/enabled: the multi-generational LRU itself (Documentation/admin-guide/mm)."""


def probe_cgroup_v2(roots: Roots) -> Finding:
    """Whether memory is limited by cgroup v2: reservations, memory.high, per-VM compression."""

    def work() -> str:
        found = cgroup.layout(roots)
        if found is not Layout.V2:
            raise HostError(f"the memory controller is on cgroup {found}")
        return "the memory controller is on cgroup v2"

    return tried(
        Feature.CGROUP_V2, "looked where the memory controller is mounted", work,
        repair="boot with systemd.unified_cgroup_hierarchy=1, or use --box",
        affects=("reservations that the kernel keeps (memory.min)",),
    )  # fmt: skip


def probe_vm_zswap(roots: Roots) -> Finding:
    """Whether compressed pages are charged to the VM that they belong to (5.19, on v2)."""

    def work() -> str:
        if cgroup.layout(roots) is not Layout.V2:
            raise HostError("on cgroup v1 compressed pages are charged to nobody")
        # Not memory.zswap.current: the root has none, and no group where nobody hands memory down.
        files = (roots.cgroup / "memory.stat", *roots.cgroup.glob("*/memory.stat"))
        if not any(parse_stat(read_bytes(file) or b"").zswapped is not None for file in files):
            raise HostError("memory.stat has no zswapped: it came with 5.19")
        return "memory.stat has zswapped"

    return tried(
        Feature.VM_ZSWAP, "looked for zswapped in memory.stat", work,
        repair="use a kernel from 5.19 on with cgroup v2, or --box", affects=("vm.compressed",),
    )  # fmt: skip


def probe_mglru(roots: Roots) -> Finding:
    """Whether pages are aged by the multi-generational LRU (6.1)."""

    def work() -> str:
        told = read_text(roots.sys / "kernel/mm/lru_gen/enabled")
        if told is None:
            raise HostError("this kernel has none (CONFIG_LRU_GEN)")
        if not int(told, 0) & _ACCESSES:
            raise HostError(f"it is switched off: lru_gen/enabled is {told}")
        return f"lru_gen/enabled is {told}"

    return tried(
        Feature.MGLRU, "read /sys/kernel/mm/lru_gen/enabled", work,
        repair="echo y > /sys/kernel/mm/lru_gen/enabled, where it was built; or use --box",
        affects=("labs that need: [mglru]",),
    )  # fmt: skip


def probe_damon(roots: Roots, *, root: bool = True) -> Finding:
    """Whether DAMON can watch the VMs: it can count by VM (6.6), and nobody else uses it."""

    def work() -> str:
        damon.must_be_free(roots)
        return "it is there, and nobody uses it"

    return tried(
        Feature.DAMON, "read /sys/kernel/mm/damon/admin", work,
        affects=("the estimate active.damon",), root=root,
    )  # fmt: skip
