"""/proc/vmstat, captured and of older kernels."""

from __future__ import annotations

from pathlib import Path

from memlab.kernel import vmstat
from memlab.kernel.files import Roots
from tests.captured import HYBRID


def test_vmstat_by_name() -> None:
    found = vmstat.read(HYBRID)
    assert found.zswpout is not None and found.zswpout >= 2000
    assert found.zswpin is not None and found.cow_ksm is not None
    assert None not in [getattr(found, name) for name in found.__slots__]
    assert vmstat.parse(b"pswpin 4\nnew_name 9\n") == vmstat.Vmstat(pswpin=4)


def test_no_file_is_all_absent(tmp_path: Path) -> None:
    assert vmstat.read(Roots(proc=tmp_path)) == vmstat.Vmstat()
