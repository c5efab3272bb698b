"""Guests with disks of their own, as far as they need no QEMU: disks, drive, lab file, figures."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from memlab.cli.image import command
from memlab.errors import HostError, LabFileError
from memlab.guest import drive, iso
from memlab.guest.wire import ABSENT
from memlab.lab.admission import BOOT_OVERHEAD, overhead_of
from memlab.lab.guests import disks_must_be_usable
from memlab.lab.load import loads
from memlab.record.board import Board, Selection
from memlab.units import MIB, PAGE
from memlab.vm.base import WorkloadConfig
from memlab.vm.hardware import Accelerator, Hardware, Lines, Root, arguments
from memlab.vm.machine import plain
from memlab.vm.mirror import BoardMirror
from memlab.vm.outside import fields
from memlab.vm.process import workload_fields
from memlab.vm.qcow import check_disk, make_overlay, open_disk

LAB = """
name: t
host: {memory: 512MiB, swap: {size: 512MiB}}
vms:
  a: {backend: qemu, memory: 128MiB, image: disk.qcow2, %s}
"""
LARGE = 5 << 40
SYSTEMD = "etc/systemd/system"


def overlay(folder: Path, size: int = LARGE) -> Path:
    """An empty qcow2 with a name."""
    fd = make_overlay(folder, size)
    path = folder / "disk.qcow2"
    path.write_bytes(os.pread(fd, 1 << 20, 0))
    os.close(fd)
    return path


class TestDisk:
    def test_an_empty_one_has_the_size_that_it_was_made_with(self, tmp_path: Path) -> None:
        path = overlay(tmp_path)
        assert check_disk(path) == LARGE
        assert path.stat().st_size < MIB
        with open(open_disk(path), "rb+", buffering=0) as read, pytest.raises(OSError):  # noqa: PTH123
            read.write(b"x")

    def test_one_that_cannot_be_used_is_refused_in_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("no disk")
        backed = bytearray(overlay(tmp_path).read_bytes())
        struct.pack_into(">QI", backed, 8, 512, 9)
        (tmp_path / "backed").write_bytes(backed)
        for name, why in (
            ("missing", "there is no such file"), ("text", "it is no qcow2 file"),
            (".", "Is a directory"), ("backed", "needs other files than itself"),
        ):  # fmt: skip
            with pytest.raises(HostError, match=why):
                check_disk(tmp_path / name)
        with pytest.raises(HostError, match="no guest disk"):
            make_overlay(tmp_path / "missing", MIB)


class TestDrive:
    def test_it_is_what_a_reader_of_iso_9660_expects(self) -> None:
        content = iso.image("MEMLAB", {"one": b"1" * 3000, "two-b": b"2"})
        volume = content[16 * 2048 : 17 * 2048]
        assert volume[:8] == b"\1CD001\1\0" and volume[40:72].rstrip() == b"MEMLAB"
        assert struct.unpack_from("<I", volume, 80)[0] * 2048 == len(content)
        assert content[17 * 2048 : 17 * 2048 + 7] == b"\xffCD001\1"
        assert volume[881:882] == b"\1"  # file structure version, ECMA-119 §8.4.31
        assert read(content) == {b"ONE.;1": b"1" * 3000, b"TWO-B.;1": b"2"}

    def test_it_has_the_agent_and_its_installer(self, tmp_path: Path) -> None:
        fd = drive.open_drive()
        with os.fdopen(fd, "rb") as file:
            found = read(file.read())
        assert found[b"MEMLAB-AGENT.;1"].startswith(b"\x7fELF")
        assert found[b"INSTALL.;1"] == drive.INSTALLER.read_bytes()
        done = CliRunner().invoke(command, ["drive", str(tmp_path / "a.iso")])
        assert done.exit_code == 0 and "labelled MEMLAB" in done.output
        assert (tmp_path / "a.iso").read_bytes() == drive.content()

    def test_more_files_than_a_sector_names_are_refused(self) -> None:
        with pytest.raises(ValueError, match="longer than a sector"):
            iso.image("X", {f"file-number-{number}": b"" for number in range(60)})

    @pytest.mark.parametrize(
        ("there", "made"),
        [
            (SYSTEMD, f"{SYSTEMD}/multi-user.target.wants/memlab-agent.service"),
            ("etc/runlevels/default", "etc/runlevels/default/memlab-agent"),
            ("etc", ""),
        ],
    )  # fmt: skip
    def test_its_installer_knows_systemd_openrc_and_others(
        self, tmp_path: Path, there: str, made: str
    ) -> None:
        (tmp_path / there).mkdir(parents=True)
        (tmp_path / "etc/init.d").mkdir(parents=True)
        for _ in range(2):  # a second time is harmless
            done = subprocess.run(
                ["sh", drive.INSTALLER, tmp_path], capture_output=True, text=True, check=True
            )
        start = tmp_path / "usr/local/sbin/memlab-agent-start"
        assert os.access(start, os.X_OK) and "LABEL=MEMLAB" in start.read_text()
        assert (tmp_path / made).is_symlink() if made else "/memlab-agent-start &" in done.stdout
        subprocess.run(["sh", "-n", start], check=True)


def read(content: bytes) -> dict[bytes, bytes]:
    """The files of the root folder, as a driver finds them."""
    root, size = struct.unpack_from("<I4xI", content, 16 * 2048 + 156 + 2)
    folder, at, found = content[root * 2048 : root * 2048 + size], 0, {}
    while folder[at]:
        where, length = struct.unpack_from("<I4xI", folder, at + 2)
        name = folder[at + 33 : at + 33 + folder[at + 32]]
        if not folder[at + 25] & 2:
            found[name] = content[where * 2048 : where * 2048 + length]
        at += folder[at]
    return found


class TestLabFile:
    def test_a_path_alone_is_short_for_the_map(self) -> None:
        vm = loads(LAB % "shares: 5").lab.vms[0]
        assert (vm.image.path, vm.image.agent, vm.image.within) == ("disk.qcow2", "wait", 60)
        assert overhead_of(vm) == BOOT_OVERHEAD

    def test_a_program_is_its_workload(self) -> None:
        vm = loads(LAB % "workload: {command: [redis-server, --port, '7000']}").lab.vms[0]
        work = vm.config(owner=1).workload
        assert work == WorkloadConfig(command=("redis-server", "--port", "7000"))
        sent = workload_fields(vm.config(owner=1))
        assert (sent["name"], sent["command"]) == ("idle", ["redis-server", "--port", "7000"])

    @pytest.mark.parametrize(
        ("more", "code", "words"),
        [
            ("kernel: /boot/vmlinuz", "ML038", "boots a disk of its own"),
            ("guest_swap: 8MiB", "ML038", "boots a disk of its own"),
            ("workload: {command: ['true'], size: 8MiB}", "ML022", "has no size"),
        ],
    )
    def test_what_a_guest_with_a_disk_cannot_have(self, more: str, code: str, words: str) -> None:
        assert_refused(LAB % more, code, words)

    def test_what_only_a_guest_with_a_disk_can_have(self) -> None:
        micro = LAB.replace("image: disk.qcow2, ", "")
        assert_refused(micro % "workload: {command: ['true']}", "ML038", "has no programs")
        process = micro.replace("backend: qemu, ", "")
        assert_refused(process % "workload: {command: ['true']}", "ML038", "the agent's own")
        assert_refused(process % "image: disk.qcow2", "ML038", "boots no disk")
        none = LAB.replace("disk.qcow2", "{path: disk.qcow2, agent: none}")
        assert_refused(none % "workload: {name: idle, size: 8MiB}", "ML038", "has no agent")
        moved = LAB % "shares: 5" + "timeline: [{at: 1s, migrate: a}]\n"
        assert_refused(moved, "ML038", "has disks")

    def test_a_disk_that_is_not_there_is_said_before_anything_is_changed(
        self, tmp_path: Path
    ) -> None:
        lab = loads(LAB % "shares: 5").lab
        with pytest.raises(HostError, match=r"disk\.qcow2 cannot be used: there is no such file"):
            disks_must_be_usable(lab, tmp_path)
        overlay(tmp_path)
        disks_must_be_usable(lab, tmp_path)


def assert_refused(text: str, code: str, words: str) -> None:
    with pytest.raises(LabFileError) as caught:
        loads(text)
    fault = caught.value.faults[0]
    assert (fault.code, words in fault.message, bool(fault.fix)) == (code, True, True), fault


class TestArguments:
    def test_the_user_s_disk_is_below_and_only_read(self) -> None:
        root = Root(base=7, top=(8, 9), agent=10)
        lines = Lines(agent=3, monitor=4, root=root)
        words = arguments(Hardware(128 * MIB, Accelerator.TCG), lines)
        assert set(lines.all) == {3, 4, 7, 8, 9, 10}
        base, top, agent = (words[at + 1] for at, one in enumerate(words) if one == "-blockdev")
        assert "read-only=on" in base and "fdset/3" in base
        assert "backing=base" in top and "fdset/4" in top
        assert "read-only=on" in agent and "driver=raw" in agent
        assert "-kernel" not in words and words[words.index("-cpu") + 1] == "max"


def test_a_guest_s_console_does_not_act_on_a_terminal() -> None:
    assert plain("\x1b[0;1;38;5;185mWARN\x1b[0m\r\nü\x1b]0;x\x07 \x9b2J") == "WARN\nü]0;x 2J"


class TestOutside:
    def test_what_the_balloon_driver_says_becomes_the_guest_s_view(self) -> None:
        said = {
            "stat-total-memory": 100 * MIB, "stat-free-memory": 40 * MIB,
            "stat-disk-caches": 10 * MIB, "stat-swap-in": 8 * PAGE, "stat-major-faults": 3,
            "stat-htlb-pgalloc": ABSENT,
        }  # fmt: skip
        found = fields(said, memory=128 * MIB, ballooned=16 * MIB)
        parts = ("used", "cache", "free", "ballooned", "reserved")
        assert sum(found[f"{name}_pages"] for name in parts) * PAGE == 128 * MIB
        assert found["used_pages"] * PAGE == 34 * MIB
        assert (found["guest_swap_in"], found["major_faults"]) == (8, 3)
        assert "minor_faults" not in found

    def test_what_a_driver_does_not_say_is_not_there(self) -> None:
        found = fields({"stat-total-memory": ABSENT}, memory=128 * MIB, ballooned=0)
        assert set(found) == {"published_ns", "configured_pages", "ballooned_pages"}

    def test_what_is_not_known_is_absent_on_the_board_and_not_0(self) -> None:
        mirror = BoardMirror(1, unknown=True)
        board = Board(mirror.fd, "a")
        chosen = Selection(("used_pages", "operations"))
        assert board.counters(chosen) is None
        mirror.update({"used_pages": 7})
        assert board.counters(chosen) == (7, None)
        board.close()
        mirror.close()
