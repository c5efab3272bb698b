"""Whether the keeper runs: where the kernel keeps a lab by itself, no thread of ours looks on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from memlab.kernel import cgroup
from memlab.kernel.zswap import PoolGate
from memlab.lab.keeper import Keeper
from memlab.units import MIB
from tests.unit.fake_host import FakeHost


@pytest.mark.parametrize(
    ("v1", "cap", "runs"),
    [(True, None, True), (False, 8 * MIB, True), (False, None, False)],
)
def test_it_runs_where_it_has_a_duty(tmp_path: Path, v1: bool, cap: int | None, runs: bool) -> None:
    host = FakeHost.make(tmp_path)
    (host.roots.cgroup / "cgroup.controllers").write_text("memory\n")
    group = cgroup.lab_group("kept", host.roots)
    group.path.mkdir(exist_ok=True)
    if v1:
        (group.path / "memory.limit_in_bytes").write_text("1048576\n")
    with Keeper(group, PoolGate(host.roots, cap), roots=host.roots) as keeper:
        assert ("keeper" in {thread.name for thread in threading.enumerate()}) is runs
        with keeper.past_the_pool():
            assert not keeper.pool_open
        assert keeper.pool_open
    assert "keeper" not in {thread.name for thread in threading.enumerate()}
