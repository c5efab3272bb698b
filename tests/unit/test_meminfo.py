"""/proc/meminfo, captured and of older kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.errors import HostError
from memlab.kernel import meminfo
from memlab.kernel.files import Roots
from tests.captured import HYBRID

KIB = 1024


def test_meminfo_is_bytes() -> None:
    found = meminfo.read(HYBRID)
    assert found.total == 24684096 * KIB
    assert found.zswap == 4152 * KIB and found.zswapped == 7588 * KIB
    assert found.swap_total == 131068 * KIB and found.swap_free == 123068 * KIB
    assert None not in [getattr(found, name) for name in found.__slots__]


def test_meminfo_of_an_older_kernel() -> None:
    found = meminfo.parse(b"MemTotal:  100 kB\nHugePages_Total:  3\n")
    assert found == meminfo.Meminfo(total=100 * KIB)


def test_no_proc_is_said(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="meminfo"):
        meminfo.read(Roots(proc=tmp_path))
