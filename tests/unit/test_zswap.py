"""zswap's parameters, its pool, and the gate that caps it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlab.errors import HostError
from memlab.kernel import zswap
from memlab.kernel.files import Roots
from memlab.units import MIB
from tests.captured import HYBRID


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    shutil.copytree(HYBRID.zswap, tmp_path / "module/zswap/parameters")
    return Roots(sys=tmp_path)


def test_parameters_are_those_that_are_there() -> None:
    found = zswap.parameters(HYBRID)
    assert found["enabled"] == "Y" and found["max_pool_percent"] == "20"
    assert "zpool" not in found
    assert zswap.is_enabled(HYBRID) is True


def test_no_zswap_is_absent(tmp_path: Path) -> None:
    nothing = Roots(sys=tmp_path)
    assert zswap.parameters(nothing) == {}
    assert zswap.is_enabled(nothing) is None
    assert zswap.read_debug(nothing) is None
    assert zswap.available_compressors(nothing) == ()


def test_the_pool_is_bytes_and_agrees_with_debugfs() -> None:
    pool = zswap.read_pool((HYBRID.proc / "meminfo").read_bytes())
    debug = zswap.read_debug(HYBRID)
    assert pool == zswap.Pool(pool_bytes=4152 * 1024, stored_bytes=7588 * 1024)
    assert debug and debug["stored_pages"] * 4096 == pool.stored_bytes
    assert debug["pool_total_size"] == pool.pool_bytes
    assert zswap.read_pool(b"MemTotal: 5 kB\n") is None


def test_the_compressor_is_what_the_file_says(roots: Roots) -> None:
    assert zswap.set_compressor("zstd", roots).took
    (roots.zswap / "compressor").unlink()
    (roots.zswap / "compressor").symlink_to("/dev/null")  # takes everything, keeps nothing
    with pytest.raises(HostError, match="no zswap compressor called 'lz5'"):
        zswap.set_compressor("lz5", roots)


def test_the_gate_has_a_dead_band(roots: Roots) -> None:
    gate = zswap.PoolGate(roots, 100 * MIB)
    assert gate.tick(99 * MIB) is None
    closed = gate.tick(100 * MIB)
    assert closed and closed.asked == "N" and gate.closed
    assert gate.tick(120 * MIB) is None and gate.tick(98 * MIB) is None
    opened = gate.tick(98 * MIB - 1)
    assert opened and opened.asked == "Y" and not gate.closed
    assert gate.open() is None
    assert gate.close() and gate.closed and gate.open()


def test_a_gate_without_a_cap_is_closed_only_by_hand(roots: Roots) -> None:
    gate = zswap.PoolGate(roots, None)
    assert gate.tick(1 << 40) is None and not gate.closed
    assert gate.close() and (roots.zswap / "enabled").read_text().strip() == "N"
    assert gate.tick(1 << 40) and not gate.closed
    assert (roots.zswap / "enabled").read_text().strip() == "Y"


@given(st.lists(st.integers(0, 200 * MIB), max_size=50))
def test_the_gate_is_closed_at_the_cap_and_open_well_below(sizes: list[int]) -> None:
    gate = zswap.PoolGate(HYBRID, 100 * MIB)
    gate._file = Path("/dev/null")
    for size in sizes:
        gate.tick(size)
        assert gate.closed if size >= 100 * MIB else True
        assert not gate.closed if size < 98 * MIB else True
