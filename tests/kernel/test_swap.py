"""Swap areas made, used and taken away, against /proc/swaps and the kernel's counters."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from memlab.errors import HostError
from memlab.kernel import meminfo, swap
from memlab.kernel.pagemap import PageWalker
from memlab.kernel.pagemap_scan import Category
from tests.kernel.lacking import SLOTS_IN_STOCK
from tests.kernel.owner import PAGE, owner, wait_until

pytestmark = pytest.mark.kernel

MIB = 1 << 20


def lines() -> list[str]:
    return Path("/proc/swaps").read_text().splitlines()[1:]


def test_a_file_on_and_off() -> None:
    before = lines()
    path = Path(f"/var/tmp/memlab test {os.getpid()}.swap")
    size = swap.make_file(path, 23 * MIB)
    try:
        swap.swapon(path, priority=17)
        found = {area.path: area for area in swap.areas()}[path]
        # The first page is the header, and no slot.
        assert (found.kind, found.size, found.used, found.priority) == (
            *("file", size - PAGE, 0, 17),
        )
        total = meminfo.read().swap_total
        assert total is not None and total >= size - PAGE
        assert swap.swapoff_in_child(path, timeout=10).done
        assert lines() == before
        assert swap.swapoff_in_child(path, timeout=10).done, "off already is no fault"
    finally:
        path.unlink()


def test_what_is_swapped_comes_back_with_its_content(swap_area: Path) -> None:
    with owner(1013) as process, PageWalker(process.pid, process.start, process.length) as walker:
        process.write(0, 1013, "unique")
        content = process.ask("sum", 0, 1013)
        process.ask("pageout", 0, 1013)
        assert wait_until(lambda: walker.count(Category.SWAPPED) == 1013)
        used = next(area.used for area in swap.areas() if area.path == swap_area)
        assert 0 <= used - 1013 * PAGE <= SLOTS_IN_STOCK * PAGE
        assert swap.swapoff_in_child(swap_area, timeout=20).done
        assert walker.count(Category.SWAPPED) == 0
        assert process.ask("sum", 0, 1013) == content
        swap.swapon(swap_area)


def test_a_zram_device_made_and_removed() -> None:
    before = set(Path("/sys/block").iterdir())
    device = swap.make_zram(16 * MIB)
    try:
        swap.swapon(device, priority=3)
        found = {area.path: area for area in swap.areas()}[device]
        assert (found.kind, found.size, found.priority) == ("partition", 16 * MIB - PAGE, 3)
        assert swap.swapoff_in_child(device, timeout=10).done
    finally:
        swap.remove_zram(device)
    assert set(Path("/sys/block").iterdir()) == before


def test_an_unknown_zram_compressor_leaves_no_device() -> None:
    before = set(Path("/sys/block").iterdir())
    with pytest.raises(HostError, match="no compressor called 'lz5'"):
        swap.make_zram(16 * MIB, compressor="lz5")
    assert set(Path("/sys/block").iterdir()) == before


def test_a_tmpfs_is_refused_by_name_and_by_the_kernel(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
    try:
        with pytest.raises(HostError, match="tmpfs cannot hold a swap file"):
            swap.make_file(tmp_path / "a.swap", MIB)
        (tmp_path / "b.swap").write_bytes(swap.header(MIB).ljust(MIB, b"\0"))
        with pytest.raises(HostError, match="tmpfs cannot hold"):
            swap.swapon(tmp_path / "b.swap")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
