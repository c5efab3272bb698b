"""The ledger on cgroup v2, where compressed pages are charged to VMs; merged and zero pages out.

What the sums over the VMs may differ by is the kernel's own accounting; `docs/measuring.md` has the
figures of two kernels.
"""

from __future__ import annotations

import pytest

from benchmarks.ledger import Phase, measure
from memlab.kernel import cgroup
from memlab.kernel.cgroup import Layout
from memlab.units import MIB

pytestmark = pytest.mark.kernel

SMALLEST_VM = 48
STOCK = 5 * 64 * 4096 / MIB
"""What the counters of five groups may lag by: 64 pages on the box's one processor."""


@pytest.fixture(scope="module")
def phases() -> dict[str, Phase]:
    if cgroup.layout() is not Layout.V2:
        pytest.skip("cgroup v1 charges compressed pages to nobody; run it in a box, which has v2")
    return {phase.name: phase for phase in measure()}


def test_every_identity_closes_within_a_hundredth(phases: dict[str, Phase]) -> None:
    for phase in phases.values():
        assert phase.samples >= 2, phase
        assert abs(phase.residual_guest) <= SMALLEST_VM / 100, phase
        assert abs(phase.residual_host) <= SMALLEST_VM / 100, phase
        assert abs(phase.residual) <= phase.budget / 100, phase


def test_the_compressed_pages_of_the_vms_are_the_hosts(phases: dict[str, Phase]) -> None:
    """A page is charged to one VM, a merged one too: to that whose page it was."""
    pushed = phases["pushed out"]
    assert pushed.vm_compressed is not None and pushed.host_compressed is not None
    assert pushed.vm_compressed >= 20, "enough has been compressed to say so"
    for phase in phases.values():
        assert phase.vm_compressed is not None and phase.host_compressed is not None
        assert abs(phase.vm_compressed - phase.host_compressed) <= STOCK, phase
