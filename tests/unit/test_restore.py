from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlab.errors import KernelError, RestoreError
from memlab.kernel import journal as journal_module
from memlab.kernel import ksm, swap
from memlab.kernel import restore as restore_module
from memlab.kernel.child import Outcome
from memlab.kernel.entries import Knob, SwapKind, encode
from memlab.kernel.files import Applied, Roots, write_text
from memlab.kernel.journal import Journal
from memlab.kernel.knob import in_restoring_order
from memlab.kernel.restore import drifted, restore
from memlab.kernel.restored import Failed, Left, Restored
from memlab.kernel.swap import SwapArea
from memlab.kernel.task import start_time
from tests.unit.fake_host import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost.make(tmp_path)


@pytest.fixture
def sleeper() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "60"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def again(host: FakeHost, *, force: bool = False) -> Restored:
    return restore(host.run, roots=host.roots, force=force)


class TestKnobs:
    def test_go_back_to_what_they_were(self, host: FakeHost) -> None:
        before = host.tree()
        journal = host.journal()
        journal.turn(host.ksm("pages_to_scan"), "20000")
        journal.turn(host.zswap("enabled"), "Y")
        journal.turn(host.ksm("run"), "1")
        restored = again(host)
        assert restored.ok
        assert host.tree() == before
        assert set(restored.given_back) == {
            "ksm/pages_to_scan 20000 → 100",
            "zswap/enabled Y → N",
            "ksm/run 1 → 0",
        }

    def test_go_back_in_the_order_the_kernel_wants(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = host.journal()
        names = ["run", "advisor_mode", "max_page_sharing", "use_zero_pages", "sleep_millisecs"]
        journal.turn(host.zswap("compressor"), "zstd")
        for name in names:
            journal.turn(host.ksm(name), "1")
        journal.turn(host.ksm("merge_across_nodes"), "0")
        written = []

        def spy(path: Path, value: str) -> Applied:
            written.append(path.name)
            return write_text(path, value)

        monkeypatch.setattr(restore_module, "write_text", spy)
        again(host)
        assert written == [
            "merge_across_nodes",
            "max_page_sharing",
            "advisor_mode",  # to none, so that pages_to_scan could be written
            "sleep_millisecs",
            "use_zero_pages",
            "run",
            "compressor",
        ]

    def test_pages_to_scan_goes_back_before_an_advisor_that_would_refuse_it(self) -> None:
        roots = Roots(sys=Path("/s"))
        scan = Knob(roots.ksm / "pages_to_scan", "100", ("20000",))
        advisor = Knob(roots.ksm / "advisor_mode", "scan-time", ("none",))
        assert in_restoring_order([scan, advisor], roots) == [scan, advisor]
        assert in_restoring_order([advisor, scan], roots) == [scan, advisor]

    def test_the_first_value_survives_many_turns(self, host: FakeHost) -> None:
        journal = host.journal()
        for value in ("0", "20", "0", "20", "0"):
            journal.turn(host.zswap("max_pool_percent"), value)
        assert again(host).ok
        assert host.zswap("max_pool_percent").read_text() == "20"

    def test_what_somebody_else_changed_is_left_and_told(self, host: FakeHost) -> None:
        host.journal().turn(host.ksm("pages_to_scan"), "20000")
        host.ksm("pages_to_scan").write_text("555\n")
        restored = again(host)
        assert restored.ok
        assert restored.left == (Left("ksm/pages_to_scan", "555", "20000", "100"),)
        assert host.ksm("pages_to_scan").read_text() == "555\n"
        assert "changed by somebody else" in str(restored.left[0])

    def test_force_gives_back_that_too(self, host: FakeHost) -> None:
        host.journal().turn(host.ksm("pages_to_scan"), "20000")
        host.ksm("pages_to_scan").write_text("555\n")
        assert again(host, force=True).left == ()
        assert host.ksm("pages_to_scan").read_text() == "100"

    def test_refused_values_are_not_mistaken_for_somebody_elses(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Trying compressors: those that the kernel lacks leave the knob as it was."""
        journal = host.journal()
        journal.turn(host.zswap("compressor"), "lzo-rle")

        def refuse(path: Path, value: str) -> Applied:
            raise KernelError(path, "write", errno.EINVAL)

        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "write_text", refuse)
            for name in ("lz4", "lz4hc", "zstd", "842"):
                with pytest.raises(KernelError):
                    journal.turn(host.zswap("compressor"), name)
        journal.turn(host.zswap("compressor"), "deflate")
        assert again(host).left == ()
        assert host.zswap("compressor").read_text() == "lzo"

    def test_another_form_of_the_same_value_is_no_change(self, host: FakeHost) -> None:
        journal = host.journal()
        journal.turn(host.zswap("enabled"), "1")
        host.zswap("enabled").write_text("Y\n")
        journal.turn(host.ksm("advisor_mode"), "scan-time")
        host.ksm("advisor_mode").write_text("none [scan-time]\n")
        assert again(host).left == ()

    def test_a_knob_that_is_gone_is_told(self, host: FakeHost) -> None:
        host.journal().turn(host.zswap("compressor"), "zstd")
        host.zswap("compressor").unlink()
        restored = again(host)
        assert restored.ok
        assert restored.left[0].now is None

    def test_a_refusal_is_told_and_stops_nothing_else(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = host.journal()
        journal.turn(host.ksm("max_page_sharing"), "512")
        journal.turn(host.ksm("run"), "1")

        def busy(path: Path, value: str) -> Applied:
            if path.name == "max_page_sharing":
                raise KernelError(path, "write", errno.EBUSY)
            return write_text(path, value)

        monkeypatch.setattr(restore_module, "write_text", busy)
        restored = again(host)
        assert not restored.ok
        assert restored.failed[0].what == "ksm/max_page_sharing"
        assert "busy" in restored.failed[0].reason
        assert host.ksm("run").read_text() == "0"
        with pytest.raises(RestoreError, match="max_page_sharing"):
            restored.check()
        monkeypatch.undo()
        assert again(host).ok, "the next try finds what is left to do"

    def test_a_write_that_was_lost_is_found_by_reading(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host.journal().turn(host.ksm("sleep_millisecs"), "10")
        monkeypatch.setattr(
            restore_module, "write_text", lambda path, value: Applied(path, value, "10")
        )
        assert not again(host).ok

    def test_drift_is_seen_while_the_lab_runs(self, host: FakeHost) -> None:
        journal = host.journal()
        journal.turn(host.ksm("run"), "1")
        assert drifted(journal.record(), roots=host.roots) == ()
        host.ksm("run").write_text("2\n")
        assert drifted(journal.record(), roots=host.roots)[0].now == "2"


class TestProcesses:
    def test_end_by_number_and_start_time(
        self, host: FakeHost, sleeper: Callable[[], subprocess.Popen[bytes]]
    ) -> None:
        ours, reused = sleeper(), sleeper()
        journal = host.journal()
        journal.process(ours.pid, start_time(ours.pid) or 0)
        journal.process(reused.pid, (start_time(reused.pid) or 0) - 1)  # the number's last owner
        restored = again(host)
        assert restored.ok
        assert ours.wait(5) == -9
        assert reused.poll() is None

    def test_of_a_journalled_cgroup_end(
        self,
        host: FakeHost,
        sleeper: Callable[[], subprocess.Popen[bytes]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("memlab.kernel.ending.ROUNDS", 5)  # an ordinary file never empties
        one, other = sleeper(), sleeper()
        group = host.roots.cgroup / "memlab-4f2a"
        group.mkdir()
        (group / "cgroup.procs").write_text(f"{one.pid}\n{os.getpid()}\n")
        host.journal().cgroup(group)
        again(host)
        assert one.wait(5) == -9
        assert other.poll() is None

    def test_the_one_who_cleans_up_spares_itself(self, host: FakeHost) -> None:
        host.journal().process(os.getpid(), start_time(os.getpid()) or 0)
        assert again(host).ok

    def test_one_that_does_not_end_is_named(
        self,
        host: FakeHost,
        sleeper: Callable[[], subprocess.Popen[bytes]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        stuck = sleeper()
        monkeypatch.setattr("memlab.kernel.ending.kill", lambda pidfd: None)
        host.journal().process(stuck.pid, start_time(stuck.pid) or 0)
        restored = again(host)
        assert [failed.what for failed in restored.failed] == [f"pid {stuck.pid} (state S)"]


class TestCgroups:
    def test_go_with_those_below_them(self, host: FakeHost) -> None:
        group = host.roots.cgroup / "memlab-4f2a"
        host.journal().cgroup(group, group / "vm1")
        (group / "vm1" / "of-the-guest").mkdir(parents=True)
        assert again(host).ok
        assert not group.exists()

    def test_only_those_of_the_journal(self, host: FakeHost) -> None:
        other = host.roots.cgroup / "memlab-other"
        other.mkdir()
        host.journal().cgroup(host.roots.cgroup / "memlab-4f2a")
        assert again(host).ok
        assert other.exists()

    def test_a_busy_one_is_tried_again(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        group = host.roots.cgroup / "memlab-4f2a"
        group.mkdir()
        host.journal().cgroup(group)
        refusals = iter([errno.EBUSY, errno.EBUSY])
        real = Path.rmdir

        def busy(self: Path) -> None:
            if code := next(refusals, None):
                raise OSError(code, os.strerror(code))
            real(self)

        monkeypatch.setattr(Path, "rmdir", busy)
        assert again(host).ok

    def test_one_that_stays_is_named(self, host: FakeHost) -> None:
        group = host.roots.cgroup / "memlab-4f2a"
        group.mkdir()
        (group / "a file that no cgroup has").touch()
        host.journal().cgroup(group)
        restored = again(host)
        assert restored.failed[0].what == str(group)


class TestFilesAndSwap:
    def test_files_and_sockets_go(self, host: FakeHost) -> None:
        journal = host.journal()
        path, address = host.base / "lab/disk", host.base / "lab/socket"
        journal.file(path)
        journal.file(address)
        path.touch()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(address))
        assert again(host).ok
        assert not path.exists()
        assert not address.exists()

    def test_a_network_s_name_goes_though_it_was_never_mounted(self, host: FakeHost) -> None:
        path = host.base / "lab/network"
        host.journal().network(path)
        assert again(host).given_back == ()
        path.touch()
        assert again(host).given_back == (f"{path} removed",)
        assert not path.exists()

    def test_a_directory_in_its_place_is_left(self, host: FakeHost) -> None:
        host.journal().file(host.base / "lab/disk")
        (host.base / "lab/disk").mkdir()
        restored = again(host)
        assert restored.ok
        assert len(restored.left) == 1

    def test_a_link_on_the_way_is_not_followed(self, host: FakeHost) -> None:
        host.journal().file(host.base / "lab/passwd")
        (host.base / "etc").mkdir()
        (host.base / "etc/passwd").write_text("precious")
        (host.base / "lab").rmdir()
        (host.base / "lab").symlink_to("etc")
        assert not again(host).ok
        assert (host.base / "etc/passwd").read_text() == "precious"

    def test_a_link_in_its_place_goes_without_its_target(self, host: FakeHost) -> None:
        host.journal().file(host.base / "lab/disk")
        (host.base / "victim").write_text("precious")
        (host.base / "lab/disk").symlink_to("../victim")
        again(host)
        assert (host.base / "victim").read_text() == "precious"

    def test_swap_is_off_before_its_file_goes(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = host.base / "lab/swap"
        on = {path}
        order = []

        def off(area: Path, *, timeout: float) -> Outcome:
            order.append(path.exists())
            on.discard(area)
            return Outcome(0, 0.0)

        monkeypatch.setattr(
            swap,
            "areas",
            lambda roots: [SwapArea(one, "file", 1, 0, -2) for one in on],
        )
        monkeypatch.setattr(swap, "swapoff_in_child", off)
        host.journal().swap(path, SwapKind.FILE)
        path.touch()
        restored = again(host)
        assert restored.ok
        assert order == [True]
        assert not path.exists()

    def test_a_swap_file_that_stays_on_keeps_its_file(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = host.base / "lab/swap"
        path.touch()

        def refuse(area: Path, *, timeout: float) -> Outcome:
            raise KernelError(area, "swap off", errno.ENOMEM)

        monkeypatch.setattr(swap, "areas", lambda roots: [SwapArea(path, "file", 1, 0, -2)])
        monkeypatch.setattr(swap, "swapoff_in_child", refuse)
        host.journal().swap(path, SwapKind.FILE)
        restored = again(host)
        assert path.exists()
        assert {failed.what for failed in restored.failed} == {f"swap {path}", str(path)}


class TestMergedPages:
    def test_are_pruned_until_the_count_is_what_it_was(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def prune(roots: Roots, *, until_pages_shared: int, timeout: float) -> bool:
            asked.append(until_pages_shared)
            (roots.ksm / "pages_shared").write_text("7\n")
            return True

        monkeypatch.setattr(ksm, "prune", prune)
        host.ksm("pages_shared").write_text("7\n")
        host.journal().turn(host.ksm("run"), "1")
        host.ksm("pages_shared").write_text("4112\n")
        restored = again(host)
        assert restored.ok
        assert asked == [7]
        assert "ksm/pages_shared is 7 again" in restored.given_back

    def test_pruning_that_was_killed_half_way_is_undone_next_time(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The knobs that pruning itself turns are ours too, though the lab never had them."""
        before = host.tree()
        host.journal().ksm(0)
        host.ksm("pages_shared").write_text("4112\n")

        def killed(roots: Roots, **_: object) -> bool:
            for name, value in ksm.PRUNING.items():
                (roots.ksm / name).write_text(value)
            raise Crash

        monkeypatch.setattr(ksm, "prune", killed)
        with pytest.raises(Crash):
            again(host)
        monkeypatch.undo()
        host.ksm("pages_shared").write_text("0\n")
        assert again(host).ok
        assert host.tree() == before

    def test_that_stay_without_an_owner_are_a_failure(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ksm, "prune", lambda *_, **__: False)
        monkeypatch.setattr(ksm, "merged_by_living", lambda *_: False)
        host.journal().ksm(0)
        host.ksm("pages_shared").write_text("9\n")
        assert again(host).failed == (
            Failed("ksm/pages_shared", "it is 9, before the lab it was 0"),
        )

    def test_of_others_are_theirs(self, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ksm, "prune", lambda *_, **__: False)
        monkeypatch.setattr(ksm, "merged_by_living", lambda *_: True)
        host.journal().ksm(0)
        host.ksm("pages_shared").write_text("9\n")
        restored = again(host)
        assert restored.ok
        assert restored.left == ()
        note = "ksm/pages_shared: it is 9, before the lab it was 0; all are of processes that live"
        assert restored.notes == (note,)


class TestWhoseJournal:
    def rewrite(self, host: FakeHost, key: str, value: str) -> None:
        """The same journal, as another boot or machine would have begun it."""
        path = host.run.path / "journal"
        first, *rest = path.read_bytes().splitlines(keepends=True)
        header = json.loads(first)
        header.pop("crc")
        path.write_bytes(encode({**header, key: value}) + b"".join(rest))

    def test_after_a_restart_only_files_go(self, host: FakeHost) -> None:
        journal = host.journal()
        journal.file(host.base / "lab/disk")
        (host.base / "lab/disk").touch()
        journal.turn(host.ksm("run"), "1")
        self.rewrite(host, "boot", "another boot")
        restored = again(host)
        assert restored.ok
        assert not (host.base / "lab/disk").exists()
        assert host.ksm("run").read_text() == "1", "this boot's value is somebody else's"
        assert "restarted" in restored.notes[0]

    def test_of_another_machine_nothing_is_touched(self, host: FakeHost) -> None:
        journal = host.journal()
        journal.file(host.base / "lab/disk")
        (host.base / "lab/disk").touch()
        self.rewrite(host, "machine", "another machine")
        restored = again(host)
        assert "another machine" in restored.failed[0].reason
        assert (host.base / "lab/disk").exists()

    def test_a_damaged_header_is_told_and_nothing_is_touched(self, host: FakeHost) -> None:
        host.journal().turn(host.ksm("run"), "1")
        path = host.run.path / "journal"
        path.write_bytes(b"x" + path.read_bytes())
        assert not again(host).ok
        assert host.ksm("run").read_text() == "1"

    def test_without_a_journal_there_is_nothing_to_do(self, host: FakeHost) -> None:
        assert again(host) == Restored()


def test_the_outcome_survives_its_file() -> None:
    restored = Restored(("a",), (Left("b", None, "1", "0"),), (Failed("c", "d"),), ("e",))
    assert Restored.from_json(restored.as_json()) == restored
    assert json.loads(restored.as_json())["ok"] is False


class Crash(BaseException):
    """A death at a fail point: nothing may catch it."""


Step = Callable[[FakeHost, Journal], None]


def _turn(folder: str, name: str, value: str) -> Step:
    def step(host: FakeHost, journal: Journal) -> None:
        path = host.ksm(name) if folder == "ksm" else host.zswap(name)
        journal.turn(path, value)

    return step


def _group(number: int) -> Step:
    def step(host: FakeHost, journal: Journal) -> None:
        group = host.roots.cgroup / f"memlab-{number}"
        journal.cgroup(group)
        journal_module.__dict__["failpoint"]("test")
        group.mkdir(exist_ok=True)

    return step


def _file(number: int) -> Step:
    def step(host: FakeHost, journal: Journal) -> None:
        path = host.base / f"lab/file{number}"
        journal.file(path)
        journal_module.__dict__["failpoint"]("test")
        path.touch()

    return step


steps = st.one_of(
    st.builds(_turn, st.just("ksm"), st.just("run"), st.sampled_from("012")),
    st.builds(
        _turn,
        st.just("ksm"),
        st.sampled_from(["pages_to_scan", "sleep_millisecs", "max_page_sharing"]),
        st.integers(1, 9).map(str),
    ),
    st.builds(_turn, st.just("zswap"), st.just("enabled"), st.sampled_from("YN")),
    st.builds(_turn, st.just("zswap"), st.just("compressor"), st.sampled_from(["lzo", "zstd"])),
    st.builds(_group, st.integers(0, 3)),
    st.builds(_file, st.integers(0, 3)),
)


def _dying_at(number: int) -> Callable[[str], None]:
    left = number

    def point(name: str) -> None:
        nonlocal left
        if left == 0:
            raise Crash(name)
        left -= 1

    return point


@settings(max_examples=200)
@given(
    plan=st.lists(steps, max_size=12),
    death=st.integers(0, 60),
    cut=st.integers(0, 40),
    second_death=st.integers(0, 12),
)
def test_a_run_that_dies_anywhere_is_undone_even_if_the_clean_up_dies_too(
    plan: list[Step], death: int, cut: int, second_death: int
) -> None:
    base = Path(tempfile.mkdtemp())
    try:
        host = FakeHost.make(base)
        before = host.tree()
        journal = host.journal()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal_module, "failpoint", _dying_at(death))
            try:
                for step in plan:
                    step(host, journal)
            except Crash as crash:
                if crash.args == ("journal-before-fsync",):
                    _lose_the_end_of_the_last_line(host, cut)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(restore_module, "failpoint", _dying_at(second_death))
            with suppress(Crash):
                again(host)
        restored = again(host)
        assert host.tree() == before
        assert restored.left == ()
        assert [one for one in restored.failed if one.what != "journal"] == []
        assert again(host).given_back == (), "there is nothing to do a third time"
    finally:
        shutil.rmtree(base)


def _lose_the_end_of_the_last_line(host: FakeHost, cut: int) -> None:
    path = host.run.path / "journal"
    raw = path.read_bytes()
    last = raw.splitlines(keepends=True)[-1]
    path.write_bytes(raw[: len(raw) - 1 - cut % len(last)])
