"""Flags and counts of frames, from files made up."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from memlab.errors import KernelError
from memlab.kernel.files import Roots
from memlab.kernel.kpage import KPF_KSM, KPF_ZERO_PAGE, read_counts, read_flags


def test_frames_in_the_order_asked_for(tmp_path: Path) -> None:
    (tmp_path / "kpageflags").write_bytes(array("Q", [0, KPF_KSM, KPF_ZERO_PAGE]).tobytes())
    (tmp_path / "kpagecount").write_bytes(array("Q", [9, 2, 1]).tobytes())
    roots = Roots(proc=tmp_path)
    assert read_flags([2, 1], roots) == [KPF_ZERO_PAGE, KPF_KSM]
    assert read_counts([0, 1], roots) == [9, 2]
    assert read_flags([77], roots) == [0], "beyond the end of memory"
    assert read_flags([], roots) == []


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="kpageflags"):
        read_flags([1], Roots(proc=tmp_path))
