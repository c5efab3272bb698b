"""What a host lacks is one sentence with its repair, and nothing was changed before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memlab.errors import AdmissionError, HostError
from memlab.kernel import files
from memlab.kernel.finding import Feature, Finding
from memlab.lab import fitness, prepare
from memlab.lab.load import bundled, load, loads
from tests.unit.fake_host import FakeHost

LAB = """\
name: fit
host: {{memory: 64MiB, swap: {{size: 64MiB, {swap}}}}}
vms: {{a: {{memory: 16MiB, workload: {{name: idle, size: 4MiB}}}}}}
{more}
"""


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost.make(tmp_path)
    (host.roots.cgroup / "cgroup.controllers").write_text("memory\n")
    return host


def refused(host: FakeHost, *, swap: str = "", more: str = "") -> HostError:
    """The refusal of `prepare`, after which the host is as it was."""
    before = host.tree()
    with pytest.raises(HostError) as error:
        prepare.prepare(loads(LAB.format(swap=swap, more=more)), roots=host.roots)
    assert host.tree() == before
    assert error.value.exit_code == 3
    assert error.value.hint
    return error.value


def test_it_fits(host: FakeHost) -> None:
    path = host.base / "lab"
    made = loads(LAB.format(swap=f"path: {path}", more="needs: [memory]"))
    assert prepare.prepare(made, roots=host.roots).plan.swap_file == path / "memlab.swap"


def test_no_ksm(host: FakeHost) -> None:
    for file in host.roots.ksm.iterdir():
        file.unlink()
    error = refused(host)
    assert "no KSM" in error.message
    assert "mechanisms.tps=off" in error.hint


def test_no_zswap(host: FakeHost) -> None:
    for file in host.roots.zswap.iterdir():
        file.unlink()
    error = refused(host)
    assert "no zswap" in error.message
    assert "mechanisms.compression=off" in error.hint


def test_a_filesystem_that_holds_no_swap_file(host: FakeHost) -> None:
    assert Path("/dev/shm").is_dir()
    error = refused(host, swap="path: /dev/shm")
    assert "tmpfs cannot hold a swap file at /dev/shm" in error.message
    assert "host.swap.path" in error.hint


def test_a_folder_that_is_not_there(host: FakeHost) -> None:
    error = refused(host, swap=f"path: {host.base}/gone")
    assert "does not exist" in error.message
    assert f"mkdir -p {host.base}/gone" in error.hint


def test_no_zram(host: FakeHost) -> None:
    error = refused(host, swap="device: zram")
    assert "no zram" in error.message
    assert "modprobe zram" in error.hint


def test_not_enough_memory(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_available", lambda roots: 560 << 20)
    error = refused(host)
    assert isinstance(error, AdmissionError)
    assert "64.0 MiB ≤ available 560.0 MiB" in error.message


def test_no_room_on_the_disk(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 100 << 20

    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    assert "100.0 MiB free" in refused(host, swap=f"path: {host.base}/lab").message


@pytest.mark.parametrize("part", ["cgroup", "sys/kernel"])
def test_what_is_mounted_read_only(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def is_read_only(path: Path) -> bool:
        return path.is_relative_to(host.base / part)

    monkeypatch.setattr(fitness, "is_read_only", is_read_only)
    error = refused(host, swap=f"path: {host.base}/lab")
    assert "read-only" in error.message
    assert "--privileged" in error.hint


def test_read_only_is_what_the_mount_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not files.is_read_only(tmp_path)
    assert not files.is_read_only(tmp_path / "gone")
    real = os.statvfs(tmp_path)
    facts = os.statvfs_result((*real[:8], os.ST_RDONLY, real[9]))
    monkeypatch.setattr(os, "statvfs", lambda path: facts)
    assert files.is_read_only(tmp_path)


class TestNeeds:
    def found(self, works: bool | None) -> Finding:
        return Finding(Feature.KVM, works, "tried", "it is slow", "buy another", ())

    def test_what_is_missing_is_refused(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[object] = []

        def probe(*_: object, only: object, **__: object) -> tuple[Finding, ...]:
            asked.append(only)
            return (self.found(False),)

        monkeypatch.setattr(fitness, "probe", probe)
        error = refused(host, swap=f"path: {host.base}/lab", more="needs: [kvm]")
        assert error.message == "this lab needs kvm, which is missing here: it is slow"
        assert error.hint == "buy another"
        assert asked == [(Feature.KVM,)]
        refused(host, swap=f"path: {host.base}/lab", more="network: on")
        assert asked[-1] == (Feature.NETWORK,)

    @pytest.mark.parametrize("works", [True, None])
    def test_what_is_there_or_cannot_be_told_is_not(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch, works: bool | None
    ) -> None:
        monkeypatch.setattr(fitness, "probe", lambda *_, **__: (self.found(works),))
        made = loads(LAB.format(swap=f"path: {host.base}/lab", more="needs: [kvm]"))
        prepare.prepare(made, roots=host.roots)

    def test_each_name_of_doctor_is_valid(self) -> None:
        names = ", ".join(Feature)
        assert loads(LAB.format(swap="", more=f"needs: [{names}]")).lab.needs == tuple(Feature)

    def test_what_a_lab_wants_follows_its_mechanisms(self) -> None:
        wanted = {path.stem: fitness.wanted(load(path).lab) for path in bundled()}
        assert wanted["baseline"] == set(fitness.ESSENTIAL)
        assert {Feature.KSM, Feature.ZSWAP, Feature.SWAP_FILE} <= wanted["quickstart"]
        assert Feature.ZSWAP not in wanted["sharing"]
        assert {name for name, needs in wanted.items() if Feature.DAMON in needs} == {
            "active-damon"
        }
        assert {name for name, needs in wanted.items() if Feature.QEMU in needs} == {
            "qemu",
            "migrate",
        }
