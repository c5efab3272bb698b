from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlab.errors import HostError, KernelError, MemlabError
from memlab.kernel.entries import (
    Header,
    Knob,
    Process,
    Record,
    Swap,
    SwapKind,
    decode,
    encode,
    parse,
)
from memlab.kernel.journal import Journal
from memlab.kernel.rundir import RunDir
from memlab.kernel.task import Task, start_time
from tests.unit.fake_host import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost.make(tmp_path)


def loaded(host: FakeHost) -> Record:
    record = Journal.load(host.run)
    assert record is not None
    return record


def test_what_was_said_is_what_is_read(host: FakeHost) -> None:
    journal = host.journal()
    group = host.roots.cgroup / "memlab-4f2a"
    journal.cgroup(group, group / "vm1")
    journal.process(11, 22, group / "vm1")
    journal.process(33, 44)
    journal.swap(host.base / "lab/swap", SwapKind.FILE)
    journal.swap(Path("/dev/zram0"), SwapKind.ZRAM)
    journal.file(host.base / "lab/socket")
    journal.ksm(17)
    journal.ksm(4000)
    journal.guard(Task(5, 6), (group.with_name("memlab-4f2a-guard"),), Path("/home"))
    record = loaded(host)
    assert record.cgroups == (group, group / "vm1")
    assert record.processes == (Process(Task(11, 22), group / "vm1"), Process(Task(33, 44)))
    assert record.swaps == (
        Swap(host.base / "lab/swap", SwapKind.FILE),
        Swap(Path("/dev/zram0"), SwapKind.ZRAM),
    )
    assert record.files == (host.base / "lab/swap", host.base / "lab/socket")
    assert record.pages_shared == 17, "the first count is the one from before the lab"
    assert record.guards[0].task == Task(5, 6)
    assert record.guards[0].home == Path("/home")
    assert record.damaged == 0


def test_the_header_names_this_process_and_this_boot(host: FakeHost) -> None:
    host.journal()
    header = loaded(host).header
    assert header is not None
    assert header.main == Task(os.getpid(), start_time(os.getpid()) or 0)
    assert header.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (header.lab, header.run, header.directory) == ("quickstart", "4f2a", host.base / "lab")


def test_turning_writes_down_first_and_reads_back(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = host.journal()
    seen = []

    def spy(name: str) -> None:
        if name == "knob-before-write":
            seen.append((loaded(host).knobs, host.ksm("pages_to_scan").read_text()))

    monkeypatch.setattr("memlab.kernel.journal.failpoint", spy)
    applied = journal.turn(host.ksm("pages_to_scan"), "20000")
    assert applied.took
    assert seen == [((Knob(host.ksm("pages_to_scan"), "100", ("20000",)),), "100\n")]
    assert host.ksm("pages_to_scan").read_text() == "20000"


def test_turning_syncs_before_it_writes(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = host.journal()
    order: list[str] = []
    sync, write = os.fsync, os.write

    def fsync(fd: int) -> None:
        order.append("sync")
        sync(fd)

    def record(fd: int, raw: bytes) -> int:
        order.append(raw[:6].decode())
        return write(fd, raw)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "write", record)
    journal.turn(host.zswap("enabled"), "Y")
    assert order == ['{"do":', "sync", "Y"]


def test_a_knob_that_has_the_value_is_left_out(host: FakeHost) -> None:
    journal = host.journal()
    assert journal.turn(host.zswap("enabled"), "0").took  # N says the same
    assert loaded(host).knobs == ()


def test_a_knob_that_is_not_there_is_refused(host: FakeHost) -> None:
    with pytest.raises(KernelError) as caught:
        host.journal().turn(host.ksm("no_such_knob"), "1")
    assert caught.value.errno == errno.ENOENT
    assert loaded(host).knobs == ()


def test_what_the_kernel_made_of_a_value_counts_as_ours(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memlab.kernel import journal as module
    from memlab.kernel.files import Applied

    def rounding(path: Path, value: str) -> Applied:
        path.write_text("8192")
        return Applied(path, value, "8192")

    monkeypatch.setattr(module, "write_text", rounding)
    host.journal().turn(host.ksm("sleep_millisecs"), "8191")
    assert loaded(host).knobs[0].is_ours("8192")


def test_the_first_turn_of_ksm_notes_what_was_merged_before(host: FakeHost) -> None:
    host.ksm("pages_shared").write_text("12\n")
    journal = host.journal()
    journal.turn(host.ksm("run"), "1")
    host.ksm("pages_shared").write_text("900\n")
    journal.turn(host.ksm("run"), "0")
    assert loaded(host).pages_shared == 12


def test_somebody_elses_value_becomes_the_one_to_give_back(host: FakeHost) -> None:
    journal = host.journal()
    scan = host.ksm("pages_to_scan")
    journal.turn(scan, "1000")
    scan.write_text("333")  # an administrator, meanwhile
    journal.turn(scan, "2000")
    assert loaded(host).knobs[0].before == "333"


def test_many_turns_keep_the_first_value(host: FakeHost) -> None:
    journal = host.journal()
    for value in range(1000, 1020):
        journal.turn(host.ksm("pages_to_scan"), str(value))
    knob = loaded(host).knobs[0]
    assert knob.before == "100"
    assert knob.is_ours("1019")
    assert not knob.is_ours("1002")


def test_one_journal_at_a_time(host: FakeHost) -> None:
    host.journal()
    with pytest.raises(HostError, match="not cleaned up"):
        host.journal()


def test_going_on_after_a_half_line(host: FakeHost) -> None:
    host.journal().ksm(1)
    path = host.run.path / "journal"
    path.write_bytes(path.read_bytes() + b'{"do":"file","path":"/x')
    again = Journal.open(host.run, roots=host.roots)
    assert again is not None
    again.file(host.base / "lab/a")
    record = loaded(host)
    assert record.files == (host.base / "lab/a",)
    assert record.damaged == 1


def test_a_full_disk_leaves_no_half_line_and_no_change(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = host.journal()
    before = (host.run.path / "journal").read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, raw: real(fd, raw[: len(raw) // 2]))
    with pytest.raises(MemlabError, match="nothing was changed"):
        journal.turn(host.ksm("run"), "1")
    monkeypatch.undo()
    assert (host.run.path / "journal").read_bytes() == before
    assert host.ksm("run").read_text() == "0\n"


@given(cut=st.integers(min_value=0))
def test_a_journal_cut_anywhere_says_what_its_whole_lines_say(cut: int) -> None:
    entries = [{"do": "file", "path": f"/tmp/{n}"} for n in range(6)]
    lines = [encode(entry) for entry in entries]
    raw = b"".join(lines)[: cut % (sum(map(len, lines)) + 1)]
    whole = raw.count(b"\n")
    said = parse(raw).files
    assert said[:whole] == tuple(Path(f"/tmp/{n}") for n in range(whole))
    assert len(said) <= whole + 1  # a line may miss its newline only


@given(where=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_believed(where: int, bit: int) -> None:
    line = encode({"do": "knob", "path": "/sys/kernel/mm/ksm/pages_to_scan", "old": "100"})[:-1]
    raw = bytearray(line)
    raw[where % len(raw)] ^= 1 << bit
    assert decode(bytes(raw)) in (None, decode(line))


def test_a_line_is_json_for_everybody() -> None:
    assert json.loads(encode({"do": "file", "path": "/ü"}))["path"] == "/ü"


def test_a_damaged_header_belongs_to_nobody(host: FakeHost) -> None:
    host.journal()
    path = host.run.path / "journal"
    path.write_bytes(path.read_bytes().replace(b"quickstart", b"quickstort"))
    record = loaded(host)
    assert record.header is None
    assert record.damaged == 1


def test_a_header_of_another_version_is_not_guessed_at() -> None:
    assert Header.from_json({"version": 99}) is None


class TestRunDirectory:
    def test_is_for_its_owner_only(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            RunDir.made(tmp_path / "run").close()
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700

    def test_lax_rights_are_tightened(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run").chmod(0o777)
        RunDir.made(tmp_path / "run").close()
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700

    def test_is_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "run").symlink_to("elsewhere")
        with pytest.raises(HostError, match="not safe"):
            RunDir.open(tmp_path / "run")

    @pytest.mark.parametrize("name", ["lock", "journal"])
    def test_a_planted_link_is_not_followed(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "victim").write_text("precious")
        with RunDir.made(tmp_path / "run") as run:
            (tmp_path / "run" / name).symlink_to("../victim")
            with pytest.raises(HostError, match="not safe"):
                run.file(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        assert (tmp_path / "victim").read_text() == "precious"

    def test_a_planted_hard_link_is_not_written(self, tmp_path: Path) -> None:
        (tmp_path / "victim").write_text("precious")
        with RunDir.made(tmp_path / "run") as run:
            os.link(tmp_path / "victim", tmp_path / "run/lock")
            with pytest.raises(HostError, match="not safe"):
                run.file("lock", os.O_RDWR | os.O_CREAT)

    def test_a_planted_directory_or_pipe_is_refused(self, tmp_path: Path) -> None:
        with RunDir.made(tmp_path / "run") as run:
            os.mkfifo(tmp_path / "run/journal")
            with pytest.raises(HostError, match="not safe"):
                run.file("journal", os.O_RDWR | os.O_APPEND)

    def test_a_place_that_cannot_be_made_names_the_repair(self, tmp_path: Path) -> None:
        with pytest.raises(HostError) as caught:
            RunDir.open(tmp_path / "no/such/parent")
        assert "MEMLAB_RUN_DIR" in caught.value.hint

    def test_absent_is_none(self, tmp_path: Path) -> None:
        assert RunDir.open(tmp_path / "run", create=False) is None
        with RunDir.made(tmp_path / "run") as run:
            assert Journal.load(run) is None
            assert Journal.open(run) is None
