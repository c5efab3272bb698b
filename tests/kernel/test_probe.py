"""What doctor finds on this very machine, held against other witnesses; nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memlab.errors import OwnedError
from memlab.kernel.entries import Header
from memlab.kernel.files import HOST, read_text
from memlab.kernel.finding import Feature, Finding
from memlab.kernel.kvm import measure
from memlab.kernel.owner import acquire
from memlab.kernel.probe import probe, probe_deep
from tests.hoststate import assert_same, snapshot
from tests.kernel.lacking import kernel, lacking
from tests.kernel.miniature import ROOT
from tests.pace import slowness

pytestmark = pytest.mark.kernel

AS_NOBODY = """
import os, sys
from pathlib import Path
from memlab.kernel.probe import probe
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
for found in probe(folder=Path(sys.argv[1])):
    print(found.feature, found.works)
"""


def by_name(findings: tuple[Finding, ...]) -> dict[Feature, Finding]:
    return {found.feature: found for found in findings}


def test_it_is_fast_and_leaves_nothing(tmp_path: Path) -> None:
    marks = ("memlab-probe",)
    before = snapshot([tmp_path], marks=marks)
    begin = time.monotonic()
    found = by_name(probe(folder=tmp_path))
    took = time.monotonic() - begin
    assert took < 1.0 * slowness() + 1.5 * (found[Feature.KVM].works is False)
    assert_same(before, snapshot([tmp_path], marks=marks))


def test_what_the_kernel_has_is_found(tmp_path: Path) -> None:
    found = by_name(probe(folder=tmp_path))
    for feature, path in (
        (Feature.KSM, HOST.ksm / "run"),
        (Feature.ZSWAP, HOST.zswap / "enabled"),
        (Feature.PSI, HOST.proc / "pressure/memory"),
        (Feature.ZRAM, HOST.sys / "class/zram-control/hot_add"),
    ):
        assert found[feature].works is path.exists(), found[feature]
    for feature in (Feature.ROOT, Feature.MEMORY_CGROUP, Feature.SWAP_FILE):
        assert found[feature].works, found[feature]
    assert found[Feature.PAGEMAP_SCAN].works is (kernel() >= (6, 7))


def test_deep_turns_knobs_and_gives_them_back(tmp_path: Path) -> None:
    before = snapshot(marks=(str(tmp_path),))
    found = by_name(probe_deep(run=tmp_path / "run"))
    assert_same(before, snapshot(marks=(str(tmp_path),)))
    assert found[Feature.KSM].works
    assert str(read_text(HOST.zswap / "compressor")) in found[Feature.COMPRESSORS].reason


def test_deep_is_refused_beside_a_lab(tmp_path: Path) -> None:
    header = Header.of_this_process("running", "p1", tmp_path)
    with acquire(header, path=tmp_path / "run"), pytest.raises(OwnedError):
        probe_deep(run=tmp_path / "run")


def test_an_ordinary_user_learns_what_root_would(tmp_path: Path) -> None:
    folder = Path("/var/tmp") / f"memlab-test-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o777)
    try:
        said = subprocess.run(
            [sys.executable, "-B", "-c", AS_NOBODY, str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    finally:
        folder.rmdir()
    found = dict(line.split() for line in said)
    for feature in (Feature.KSM, Feature.ZSWAP, Feature.MEMORY_CGROUP, Feature.FRAME_NUMBERS):
        assert found[feature] == "None", "not root is no proof that it is missing"


def test_kvm_is_timed_not_believed() -> None:
    speed = measure()
    if speed is None or not Path("/dev/kvm").exists():
        lacking("/dev/kvm", "run it on a host with KVM")
    assert speed.per_second is not None
    model = (read_text(HOST.proc / "cpuinfo") or "").lower()
    if "hypervisor" not in model:
        assert speed.usable, "a bare machine runs a guest at full speed"
