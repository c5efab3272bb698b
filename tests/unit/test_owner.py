"""Owning the host, with a real guard process and a fake host. No root needed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memlab.errors import OwnedError, RestoreError
from memlab.kernel import guard_process
from memlab.kernel.entries import encode
from memlab.kernel.files import Roots
from memlab.kernel.guard import Guard
from memlab.kernel.journal import Journal
from memlab.kernel.lock import finish, holder, lock, owner
from memlab.kernel.owner import Owner, acquire, forget, last_restored, recover, restore_left
from memlab.kernel.restored import Failed, Left, Restored
from memlab.kernel.task import is_alive, state
from tests.unit.fake_host import FakeHost

MAIN = """
import os, sys, time
from pathlib import Path
from memlab.kernel.owner import acquire
from tests.unit.fake_host import FakeHost
from memlab.kernel.files import Roots
from memlab.kernel.rundir import RunDir

base = Path(sys.argv[1])
host = FakeHost(base, Roots(sys=base / "sys", cgroup=base / "cgroup"), RunDir.made(base / "run"))
owner = acquire(host.header(results=base / "results"), path=base / "run", roots=host.roots)
owner.journal.turn(host.ksm("pages_to_scan"), "20000")
owner.journal.turn(host.zswap("enabled"), "Y")
print(owner.guard.facts.task.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    (tmp_path / "results").mkdir()
    return FakeHost.make(tmp_path)


@pytest.fixture
def owned(host: FakeHost) -> Iterator[Owner]:
    with mine(host) as owner:
        yield owner


def mine(host: FakeHost, lab: str = "quickstart") -> Owner:
    return acquire(host.header(lab), path=host.run.path, roots=host.roots)


def other_main(host: FakeHost, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, str(host.base)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
    )


def started(main: subprocess.Popen[str]) -> int:
    """The number of its guard, once it owns the host."""
    assert main.stdout is not None
    return int(main.stdout.readline())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def wait_for(what: Any, seconds: float = 10.0) -> float:
    begin = time.monotonic()
    while not what():
        assert time.monotonic() - begin < seconds, f"{what} did not come true"
        time.sleep(0.02)
    return time.monotonic() - begin


class TestTheNormalWay:
    def test_everything_is_given_back_and_put_away(self, host: FakeHost) -> None:
        before = host.tree()
        with mine(host) as owner:
            owner.journal.turn(host.ksm("pages_to_scan"), "20000")
            guard = owner.guard.facts.task
            assert is_alive(guard)
        assert owner.restored is not None
        assert owner.restored.ok
        assert host.tree() == before
        assert not is_alive(guard)
        assert [path.name for path in host.run.path.iterdir()] == ["lock"]
        assert last_restored(host.run.path) is None

    def test_closing_twice_is_harmless(self, host: FakeHost) -> None:
        owner = mine(host)
        assert owner.close() is owner.close()

    def test_the_guard_is_out_of_reach(self, owned: Owner) -> None:
        guard = owned.guard.facts.task.pid
        assert os.getsid(guard) != os.getsid(0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(guard, number)
        time.sleep(0.1)
        assert owned.guard.alive()
        assert Path(f"/proc/{guard}/cwd").readlink() == Path("/")

    def test_nothing_of_the_callers_environment_reaches_the_guard(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", "/nowhere")
        monkeypatch.setenv("LD_PRELOAD", "")
        with mine(host) as owner:
            environment = Path(f"/proc/{owner.guard.facts.task.pid}/environ").read_bytes()
        names = {line.partition(b"=")[0] for line in environment.split(b"\0") if line}
        assert names <= {b"PATH", b"LC_ALL"}

    def test_the_guard_keeps_little_memory(self, owned: Owner) -> None:
        assert owned.guard.facts.locked <= 20 * 1024**2

    def test_no_child_of_main_holds_the_lock(self, owned: Owner) -> None:
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
        try:
            names = [str(path.readlink()) for path in Path(f"/proc/{child.pid}/fd").iterdir()]
            assert not any(name.startswith(str(owned.run.path)) for name in names)
        finally:
            child.kill()
            child.wait()


class TestASecondRun:
    def test_is_refused_at_once_with_name_place_and_command(
        self, host: FakeHost, owned: Owner
    ) -> None:
        begin = time.monotonic()
        with pytest.raises(OwnedError) as caught:
            mine(host, "another")
        assert time.monotonic() - begin < 1.0
        assert "'quickstart'" in caught.value.message
        assert str(os.getpid()) in caught.value.message
        assert str(host.base / "lab") in caught.value.message
        assert "memlab down quickstart" in caught.value.hint
        assert "--replace" in caught.value.hint
        assert owner(owned.run) is not None

    def test_leaves_the_first_alone(self, host: FakeHost, owned: Owner) -> None:
        owned.journal.turn(host.ksm("run"), "1")
        with pytest.raises(OwnedError):
            mine(host)
        assert recover(host.run.path, roots=host.roots) is None
        assert host.ksm("run").read_text() == "1"
        assert owned.guard.alive()

    def test_only_one_of_many_at_once_wins(self, host: FakeHost) -> None:
        mains = [other_main(host) for _ in range(5)]
        try:
            wait_for(lambda: sum(main.poll() is None for main in mains) == 1, 20)
            winner = next(main for main in mains if main.poll() is None)
            started(winner)
            found = holder(host.run)
            assert found is not None
            assert found.main.pid == winner.pid
        finally:
            for main in mains:
                end(main)
        wait_for(lambda: host.ksm("pages_to_scan").read_text().strip() == "100")

    def test_cannot_slip_in_while_a_killed_guard_is_replaced(
        self, host: FakeHost, owned: Owner
    ) -> None:
        os.kill(owned.guard.facts.task.pid, signal.SIGKILL)
        wait_for(lambda: not owned.guard.alive())
        with pytest.raises(OwnedError):
            mine(host)
        assert recover(host.run.path, roots=host.roots) is None


class TestDeath:
    def test_of_main_is_cleaned_up_by_the_guard(self, host: FakeHost) -> None:
        before = host.tree()
        main = other_main(host)
        guard = started(main)
        assert host.ksm("pages_to_scan").read_text() == "20000"
        end(main)
        seconds = wait_for(lambda: state(guard) in (None, "Z"))
        assert seconds < 5
        told = host.base / "results/restored.json"
        restored = Restored.from_json(told.read_text())
        told.unlink()
        assert host.tree() == before
        assert last_restored(host.run.path) is None
        assert restored.ok
        assert "zswap/enabled Y → N" in restored.given_back
        assert Journal.load(host.run) is None

    def test_is_told_beside_the_recording(self, host: FakeHost) -> None:
        main = other_main(host)
        guard = started(main)
        end(main)
        wait_for(lambda: state(guard) in (None, "Z"))
        told = json.loads((host.base / "results/restored.json").read_text())
        assert told["ok"] is True

    def test_of_both_is_cleaned_up_by_the_next_command(self, host: FakeHost) -> None:
        before = host.tree()
        main = other_main(host)
        guard = started(main)
        os.kill(guard, signal.SIGKILL)
        end(main)
        wait_for(lambda: state(guard) in (None, "Z"))
        assert host.tree() != before
        restored = recover(host.run.path, roots=host.roots)
        assert restored is not None
        assert restored.ok
        assert host.tree() == before
        assert recover(host.run.path, roots=host.roots) is None

    def test_of_both_does_not_hinder_the_next_run(self, host: FakeHost) -> None:
        before = host.tree()
        main = other_main(host)
        guard = started(main)
        os.kill(guard, signal.SIGKILL)
        end(main)
        with mine(host) as owner:
            assert host.tree() == before
            assert owner.guard.alive()

    @pytest.mark.parametrize("number", range(1, 9))
    def test_of_the_guard_while_it_cleans_up(self, host: FakeHost, number: int) -> None:
        before = host.tree()
        main = other_main(host, MEMLAB_FAIL_GUARD=f"restore-step:{number}")
        guard = started(main)
        end(main)
        wait_for(lambda: state(guard) in (None, "Z"))
        recover(host.run.path, roots=host.roots)
        (host.base / "results/restored.json").unlink(missing_ok=True)
        assert host.tree() == before

    def test_of_the_guard_alone_is_seen_and_it_is_replaced(self, host: FakeHost) -> None:
        before = host.tree()
        owner = mine(host)
        owner.journal.turn(host.ksm("run"), "1")
        os.kill(owner.guard.facts.task.pid, signal.SIGKILL)
        assert select.select([owner.guard], [], [], 5)[0]
        assert not owner.guard.alive()
        owner.guard = owner.guard.replace(owner.journal)
        assert owner.guard.alive()
        assert lock(owner.run) is None
        assert host.ksm("run").read_text() == "1", "nothing is undone while main lives"
        assert owner.close().ok
        assert host.tree() == before
        assert recover(host.run.path, roots=host.roots) is None

    def test_of_the_guard_just_before_the_end_loses_nothing(self, host: FakeHost) -> None:
        before = host.tree()
        owner = mine(host)
        owner.journal.turn(host.ksm("run"), "1")
        os.kill(owner.guard.facts.task.pid, signal.SIGKILL)
        wait_for(lambda: not owner.guard.alive())
        assert owner.close().ok
        assert host.tree() == before
        assert Journal.load(host.run) is None

    def test_stopping_main_is_not_death(self, host: FakeHost) -> None:
        main = other_main(host)
        try:
            guard = started(main)
            os.kill(main.pid, signal.SIGSTOP)
            time.sleep(1.5)
            assert host.ksm("pages_to_scan").read_text() == "20000"
            assert Path(f"/proc/{guard}").exists()
        finally:
            end(main)
        wait_for(lambda: state(guard) in (None, "Z"))


class TestWhatCannotBeGivenBack:
    def leave_a_mess(self, host: FakeHost) -> Path:
        group = host.roots.cgroup / "memlab-4f2a"
        (group / "x").mkdir(parents=True)
        (group / "x/file").touch()
        journal = host.journal()
        journal.cgroup(group)
        path = host.run.path / "journal"
        first, *rest = path.read_bytes().splitlines(keepends=True)
        header = json.loads(first)
        header.pop("crc")
        header["main"]["start_time"] = 1  # some process that has long ended
        path.write_bytes(encode(header) + b"".join(rest))
        return group

    def test_stays_in_the_journal_and_stops_the_next_run(
        self, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("memlab.kernel.restore._RMDIR_ROUNDS", 2)
        group = self.leave_a_mess(host)
        with pytest.raises(RestoreError, match="memlab-4f2a"):
            mine(host)
        (group / "x/file").unlink()
        restored = recover(host.run.path, roots=host.roots)
        assert restored is not None
        assert restored.ok

    def test_can_be_given_up(self, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("memlab.kernel.restore._RMDIR_ROUNDS", 2)
        self.leave_a_mess(host)
        assert forget(host.run.path)
        assert not forget(host.run.path)
        with mine(host):
            pass

    def test_what_others_changed_can_be_forced_later(self, host: FakeHost) -> None:
        with mine(host) as owner:
            owner.journal.turn(host.ksm("pages_to_scan"), "20000")
            host.ksm("pages_to_scan").write_text("555\n")
        assert owner.restored is not None
        assert owner.restored.left == (Left("ksm/pages_to_scan", "555", "20000", "100"),)
        assert recover(host.run.path, roots=host.roots) is None
        restored = restore_left(host.run.path, roots=host.roots)
        assert restored is not None
        assert restored.ok
        assert host.ksm("pages_to_scan").read_text() == "100"
        assert restore_left(host.run.path, roots=host.roots) is None

    def test_what_was_left_is_no_matter_of_the_run_after_the_next(self, host: FakeHost) -> None:
        with mine(host) as owner:
            owner.journal.turn(host.ksm("pages_to_scan"), "20000")
            host.ksm("pages_to_scan").write_text("555\n")
        with mine(host):
            pass
        assert sorted(path.name for path in host.run.path.iterdir()) == ["lock"]
        assert restore_left(host.run.path, roots=host.roots) is None
        assert host.ksm("pages_to_scan").read_text() == "555\n"

    def test_a_failure_keeps_the_journal(self, host: FakeHost) -> None:
        host.journal()
        finish(host.run, Restored(failed=(Failed("a", "b"),)))
        assert Journal.load(host.run) is not None


class TestTheGuardsMemory:
    @pytest.mark.parametrize(
        ("size", "resident", "asked"),
        [(19000, 16000, [3]), (21300, 16300, [7]), (40000, 30000, [7, 0])],
    )
    def test_how_much_is_locked(
        self, size: int, resident: int, asked: list[int], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """All of it; if that were too much what is touched; if that is too much nothing (0)."""
        (tmp_path / "status").write_text(f"VmSize: {size} kB\nVmRSS: {resident} kB\n")
        calls: list[int] = []

        class Libc:
            def mlockall(self, flags: int) -> int:
                calls.append(flags)
                return 0

            def munlockall(self) -> None:
                calls.append(0)

        monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Libc())
        guard_process._lock_memory(tmp_path)
        assert calls == asked


class TestTheGuardsWatch:
    def watch(self, tmp_path: Path, available: int) -> guard_process.Watch:
        (tmp_path / "meminfo").write_text(
            f"MemTotal:  1000000 kB\nMemFree: 5 kB\nMemAvailable: {available} kB\n"
        )
        return guard_process.Watch(Roots(proc=tmp_path))

    def test_enough_memory_is_no_reason(self, tmp_path: Path) -> None:
        assert self.watch(tmp_path, 30000).reason(1.0, 1.0) is None

    def test_too_little_memory_is(self, tmp_path: Path) -> None:
        reason = self.watch(tmp_path, 29999).reason(1.0, 1.0)
        assert reason is not None
        assert "29 MiB" in reason

    def test_a_kernel_that_does_not_tell_is_no_reason(self, tmp_path: Path) -> None:
        assert guard_process.Watch(Roots(proc=tmp_path)).reason(1.0, 1.0) is None

    def test_one_late_tick_is_a_suspended_machine_two_are_a_dying_one(self, tmp_path: Path) -> None:
        watch = self.watch(tmp_path, 900000)
        assert watch.reason(100.0, 95.0) is None
        assert watch.reason(100.1, 100.1) is None
        assert watch.reason(200.0, 198.0) is None, "the first is long ago"
        assert watch.reason(203.0, 201.0) is not None

    def test_ends_the_lab_and_says_why(self, host: FakeHost, tmp_path: Path) -> None:
        """A guard whose proc says that the memory is gone, beside a main that lives."""
        proc = tmp_path / "proc"
        proc.mkdir()
        for name in ("self", "sys", "swaps", "cgroups", str(os.getpid())):
            (proc / name).symlink_to(f"/proc/{name}")
        self.watch(proc, 10)
        host.journal().turn(host.ksm("run"), "1")
        roots = Roots(proc=proc, sys=host.roots.sys, cgroup=host.roots.cgroup)
        guard = Guard.start(host.run, host.header(), roots=roots)
        try:
            wait_for(lambda: host.ksm("run").read_text().strip() == "0")
            assert select.select([guard], [], [], 5)[0]
            assert "MiB are available" in (guard.aborted() or "")
            assert guard.aborted() is None, "said once"
        finally:
            guard.release(Restored())
            os.kill(guard.facts.task.pid, signal.SIGKILL)
