"""What kernel tests share: a swap area, a ksmd that runs, a cgroup; each given back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memlab.kernel import cgroup, ksm, swap
from memlab.kernel.cgroup import MemoryGroup
from tests.kernel.owner import turned


@pytest.fixture
def swap_area() -> Iterator[Path]:
    """A swap file of 64 MiB that is in use, before all others."""
    path = Path(f"/var/tmp/memlab-test-{os.getpid()}.swap")
    swap.make_file(path, 64 << 20)
    try:
        swap.swapon(path)
        yield path
    finally:
        swap.swapoff_in_child(path, timeout=20)
        path.unlink()


@pytest.fixture
def merging() -> Iterator[None]:
    """ksmd at full speed; afterwards nothing of ours is counted as merged."""
    before = ksm.read_counters()
    assert before and before.pages_shared is not None
    with turned(run="1", pages_to_scan="20000", sleep_millisecs="10"):
        yield
    assert ksm.prune(until_pages_shared=before.pages_shared) or ksm.merged_by_living()


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    """An empty group `vm` in a lab's group below our own."""
    lab = cgroup.lab_group(f"test-{os.getpid()}")
    lab.create()
    try:
        vm = lab.child("vm")
        vm.create()
        yield vm
    finally:
        lab.kill()
        lab.remove()
