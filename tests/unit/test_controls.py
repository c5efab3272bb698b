"""The controls of a VM's cgroup: written where the kernel has them, refused where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.errors import HostError, LabFileError
from memlab.kernel import cgroup
from memlab.kernel.cgroup import MemoryGroup
from memlab.kernel.finding import Feature
from memlab.lab import controls, fitness
from memlab.lab.load import loads
from memlab.lab.values import Amount
from memlab.units import MIB
from tests.unit.fake_host import FakeHost

LAB = """\
name: controls
host: {memory: 64MiB, swap: {size: 64MiB}}
vms:
  plain: {memory: 16MiB}
  bound:
    memory: 16MiB
    cgroup: {high: 50%, swap_max: 4MiB, zswap_max: 1MiB, zswap_writeback: off}
"""


@pytest.fixture
def group(tmp_path: Path) -> MemoryGroup:
    host = FakeHost.make(tmp_path)
    (host.roots.cgroup / "cgroup.controllers").write_text("memory\n")
    group = cgroup.lab_group("bound", host.roots)
    group.path.mkdir(exist_ok=True)
    return group


def test_they_are_read_and_written(group: MemoryGroup) -> None:
    plain, bound = loads(LAB).lab.vms
    assert not controls.asked(plain)
    wanted = controls.asked(bound)
    assert wanted == {
        "high": Amount(fraction=0.5), "swap_max": Amount(size=4 * MIB),
        "zswap_max": Amount(size=MIB), "zswap_writeback": False,
    }  # fmt: skip
    for file in controls.FILES.values():
        (group.path / file).write_text("")
    said = [
        controls.turn(group, name, value, vm="bound", memory=bound.memory)
        for name, value in wanted.items()
    ]
    assert said == [
        "memory.high 8.0 MiB", "memory.swap.max 4.0 MiB", "memory.zswap.max 1.0 MiB",
        "memory.zswap.writeback off",
    ]  # fmt: skip
    got = {file: (group.path / file).read_text() for file in controls.FILES.values()}
    assert list(got.values()) == [str(8 * MIB), str(4 * MIB), str(MIB), "0"]


def test_a_kernel_without_one_is_named(group: MemoryGroup) -> None:
    with pytest.raises(HostError, match=r"no memory\.zswap\.writeback, which cgroup\.zswap_writeb"):
        controls.turn(group, "zswap_writeback", False, vm="bound", memory=MIB)


def test_a_lab_with_them_needs_v2() -> None:
    assert Feature.CGROUP_V2 in fitness.wanted(loads(LAB).lab)
    assert Feature.CGROUP_V2 not in fitness.wanted(loads(LAB.partition("  bound")[0]).lab)


def test_more_than_the_vm_has_is_refused() -> None:
    with pytest.raises(LabFileError) as error:
        loads(LAB.replace("swap_max: 4MiB", "swap_max: 40MiB"))
    (fault,) = error.value.faults
    assert fault.code == "ML034"
    assert "swap_max 40.0 MiB is more than its memory" in fault.message
