"""Finding out on a fake host, as root or not: reasons and repairs, and nothing left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from memlab.errors import HostError, KernelError
from memlab.kernel import probe_extra, probe_host, probe_store, probe_view
from memlab.kernel.files import Roots
from memlab.kernel.finding import Feature, Finding, tried
from memlab.kernel.kvm import KvmSpeed, measure
from memlab.kernel.probe import probe
from memlab.kernel.swap import filesystem_of
from tests.unit.fake_host import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost.make(tmp_path)


class TestTrying:
    def test_what_was_seen_is_the_reason(self) -> None:
        found = tried(Feature.PSI, "looked", lambda: "12", affects=("a",))
        assert found == Finding(Feature.PSI, True, "looked", "12", "", ("a",))

    def test_a_host_error_brings_its_own_repair(self) -> None:
        def work() -> str:
            raise HostError("none", hint="modprobe it")

        found = tried(Feature.ZRAM, "looked", work)
        assert (found.works, found.reason, found.repair) == (False, "none", "modprobe it")

    @pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES])
    def test_a_refusal_proves_nothing_without_root(self, code: int) -> None:
        def work() -> str:
            raise KernelError("/sys/x", "open", code)

        assert tried(Feature.KSM, "opened", work, root=False).works is None
        assert "root" in tried(Feature.KSM, "opened", work, root=False).repair
        assert tried(Feature.KSM, "opened", work, root=True).works is False

    def test_absence_is_absence_for_everybody(self) -> None:
        def work() -> str:
            raise KernelError("/sys/x", "open", errno.ENOENT)

        assert tried(Feature.KSM, "opened", work, root=False).works is False


class TestStore:
    def test_no_ksm(self, tmp_path: Path) -> None:
        found = probe_store.probe_ksm(Roots(sys=tmp_path), root=True)
        assert found.works is False
        assert "CONFIG_KSM" in found.repair

    def test_ksm_is_looked_at_and_not_turned(self, host: FakeHost) -> None:
        before = host.tree()
        assert probe_store.probe_ksm(host.roots, root=True).works
        assert probe_store.probe_zswap(host.roots, root=True).works
        assert host.tree() == before

    def test_no_zswap(self, tmp_path: Path) -> None:
        found = probe_store.probe_zswap(Roots(sys=tmp_path), root=True)
        assert found.works is False
        assert found.repair

    def test_compressors_are_those_loaded(self, host: FakeHost, tmp_path: Path) -> None:
        (tmp_path / "crypto").write_text("name         : zstd\ndriver : x\n\nname         : aes\n")
        roots = Roots(proc=tmp_path, sys=host.roots.sys)
        assert probe_store.probe_compressors(roots).reason == "loaded: zstd"
        (tmp_path / "crypto").write_text("name         : aes\n")
        assert probe_store.probe_compressors(roots).works is None

    def test_a_folder_that_cannot_hold_a_swap_file(self, tmp_path: Path) -> None:
        if filesystem_of(Path("/dev/shm")) != "tmpfs":
            pytest.skip("needs a tmpfs at /dev/shm")
        found = probe_store.probe_swap_file(Roots(), Path("/dev/shm"), root=False)
        assert found.works is False
        assert "tmpfs" in found.reason
        assert not list(Path("/dev/shm").glob(".memlab-probe-*"))

    def test_a_swap_file_is_not_left_behind(self, tmp_path: Path) -> None:
        probe_store.probe_swap_file(Roots(), tmp_path, root=False)
        assert not list(tmp_path.iterdir())

    def test_huge_pages_that_make_figures_coarse(self, tmp_path: Path) -> None:
        folder = tmp_path / "kernel/mm/transparent_hugepage"
        folder.mkdir(parents=True)
        (folder / "enabled").write_text("[always] madvise never\n")
        (folder / "hpage_pmd_size").write_text("2097152\n")
        reason = probe_store.probe_thp(Roots(sys=tmp_path)).reason
        assert "always" in reason
        assert "2.0 MiB" in reason


class TestExtra:
    def test_damon_that_somebody_uses_is_left_alone(self, tmp_path: Path) -> None:
        base = tmp_path / "kernel/mm/damon/admin/kdamonds"
        (base / "0").mkdir(parents=True)
        roots = Roots(sys=tmp_path)
        assert "no DAMON" in probe_extra.probe_damon(roots).reason
        (base / "nr_kdamonds").write_text("1\n")
        (base / "0/state").write_text("on\n")
        found = probe_extra.probe_damon(roots)
        assert found.works is False and "somebody else's" in found.reason and found.repair
        (base / "0/state").write_text("off\n")
        assert probe_extra.probe_damon(roots).works is False
        (base / "nr_kdamonds").write_text("0\n")
        assert probe_extra.probe_damon(roots).works

    @pytest.mark.parametrize(("told", "works"), [("0x0007", True), ("0x0000", False)])
    def test_mglru_is_on_or_off(self, told: str, works: bool, tmp_path: Path) -> None:
        (tmp_path / "kernel/mm/lru_gen").mkdir(parents=True)
        (tmp_path / "kernel/mm/lru_gen/enabled").write_text(told + "\n")
        assert probe_extra.probe_mglru(Roots(sys=tmp_path)).works is works

    def test_zswap_of_each_vm_needs_v2(self, tmp_path: Path) -> None:
        (tmp_path / "cgroup.controllers").write_text("memory\n")
        roots = Roots(cgroup=tmp_path)
        assert probe_extra.probe_cgroup_v2(roots).works
        assert probe_extra.probe_vm_zswap(roots).works is False
        (tmp_path / "memory.stat").write_text("anon 4096\n")
        assert probe_extra.probe_vm_zswap(roots).works is False
        (tmp_path / "memory.stat").write_text("anon 4096\nzswap 0\nzswapped 0\n")
        assert probe_extra.probe_vm_zswap(roots).works, "the root has no memory.zswap.current"
        (tmp_path / "memory.stat").unlink()
        (tmp_path / "init.scope").mkdir()
        (tmp_path / "init.scope/memory.stat").write_text("zswapped 0\n")
        assert probe_extra.probe_vm_zswap(roots).works, "in a container, a group is the root"


class TestOthers:
    def fake(self, host: FakeHost, tmp_path: Path, *comms: str) -> Roots:
        for number, comm in enumerate(comms, 100):
            (tmp_path / f"proc/{number}").mkdir(parents=True)
            (tmp_path / f"proc/{number}/comm").write_text(comm + "\n")
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/swaps").write_text("Filename Type Size Used Priority\n")
        return Roots(proc=tmp_path / "proc", sys=host.roots.sys)

    def test_nobody(self, host: FakeHost, tmp_path: Path) -> None:
        found = probe_store.others_at_work(self.fake(host, tmp_path, "bash"))
        assert (found.works, found.reason) == (True, "nobody")

    def test_everybody(self, host: FakeHost, tmp_path: Path) -> None:
        roots = self.fake(host, tmp_path, "ksmtuned", "tuned")
        (roots.proc / "swaps").write_text("header\n/dev/sda2 partition 1048576 0 -2\n")
        host.ksm("pages_shared").write_text("12\n")
        host.ksm("advisor_mode").write_text("none [scan-time]\n")
        host.zswap("enabled").write_text("Y\n")
        found = probe_store.others_at_work(roots)
        assert found.works is None
        for words in ("ksmtuned runs", "tuned runs", "12 pages", "/dev/sda2", "zswap", "advisor"):
            assert words in found.reason
        assert "systemctl stop" in found.repair


class TestHost:
    def test_too_little_memory(self, tmp_path: Path) -> None:
        (tmp_path / "meminfo").write_text("MemTotal: 800000 kB\nMemAvailable: 560000 kB\n")
        found = probe_host.probe_memory(Roots(proc=tmp_path))
        assert found.works is False
        assert "546.9 MiB available" in found.reason

    def test_an_ordinary_user_is_told_what_up_will_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/sudo")
        assert probe_host.probe_root(Roots(proc=tmp_path)).works is None
        monkeypatch.setattr("shutil.which", lambda name: None)
        assert probe_host.probe_root(Roots(proc=tmp_path)).works is False

    def test_root_in_a_container_without_rights(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self/status").write_text("CapEff:\t00000000a80425fb\n")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        found = probe_host.probe_root(Roots(proc=tmp_path))
        assert found.works is False
        assert "--privileged" in found.repair

    def test_no_cgroups(self, tmp_path: Path) -> None:
        made, kill = probe_host.probe_cgroup(Roots(cgroup=tmp_path / "none"), root=True)
        assert made.works is False
        assert made.repair
        assert kill.works is None

    @pytest.mark.parametrize(
        ("release", "vendor", "flags", "words"),
        [
            ("5.15.167.4-microsoft-standard-WSL2", "", "", "WSL2"),
            ("6.1.0-cloud", "Amazon EC2", "", "Amazon EC2"),
            ("6.8.0", "Google", "", "Google Cloud"),
            ("6.1.0", "", "fpu hypervisor sse", "a virtual machine"),
        ],
    )
    def test_kinds_of_machines(
        self, tmp_path: Path, release: str, vendor: str, flags: str, words: str
    ) -> None:
        (tmp_path / "sys/kernel").mkdir(parents=True)
        (tmp_path / "sys/kernel/osrelease").write_text(release + "\n")
        (tmp_path / "class/dmi/id").mkdir(parents=True)
        (tmp_path / "class/dmi/id/sys_vendor").write_text(vendor + "\n")
        (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
        found = probe_host.probe_machine(Roots(proc=tmp_path, sys=tmp_path))
        assert words in found.reason


class TestKvm:
    def test_no_device(self, tmp_path: Path) -> None:
        found = probe_host.probe_kvm(tmp_path / "kvm")
        assert found.works is False
        assert "firmware" in found.repair

    def test_a_device_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "kvm").touch()
        speed = measure(tmp_path / "kvm")
        assert speed is None or (speed.per_second is None and speed.errno == errno.ENOTTY)

    @pytest.mark.parametrize(("rate", "usable"), [(1.7e6, False), (49.9e6, False), (2e9, True)])
    def test_fast_enough(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rate: float, usable: bool
    ) -> None:
        monkeypatch.setattr(probe_host, "measure", lambda device: KvmSpeed(rate))
        assert probe_host.probe_kvm(tmp_path).works is usable

    def test_a_refusal_names_the_group(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(probe_host, "measure", lambda device: KvmSpeed(None, errno.EACCES))
        found = probe_host.probe_kvm(tmp_path)
        assert found.works is None
        assert "usermod -aG kvm" in found.repair


def test_pages_of_our_own_are_found() -> None:
    found = probe_view.probe_pagemap_scan(root=True)
    assert found.works or "6.7" in found.reason


def test_no_psi(tmp_path: Path) -> None:
    found = probe_view.probe_psi(Roots(proc=tmp_path))
    assert found.works is False
    assert "psi=1" in found.repair


def test_every_feature_is_found_once_with_a_reason(tmp_path: Path) -> None:
    findings = probe(folder=tmp_path, kvm=tmp_path / "no kvm")
    assert sorted(found.feature for found in findings) == sorted(Feature)
    for found in findings:
        assert found.how
        assert found.reason
        assert found.affects
        assert found.works is not False or found.repair, found
