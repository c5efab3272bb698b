"""QEMU VMs, as far as they need no QEMU: arguments, the balloon's books, mirror, monitor."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from memlab.errors import LabFileError, VmError
from memlab.lab.admission import BOOT_OVERHEAD, QEMU_OVERHEAD, VM_OVERHEAD, overhead_of
from memlab.lab.load import loads
from memlab.record.board import Board, Selection
from memlab.units import MIB
from memlab.vm.balloon import Balloon
from memlab.vm.base import Backend, VmConfig
from memlab.vm.hardware import Accelerator, Hardware, Lines, Nic, arguments
from memlab.vm.launch import Launch
from memlab.vm.machine import QemuMachine
from memlab.vm.mirror import BoardMirror
from memlab.vm.qmp import Monitor

HARDWARE = Hardware(128 * MIB, Accelerator.TCG)
LINES = Lines(agent=3, monitor=4, kernel=5, initramfs=6)
LAB = """
name: t
host: {memory: 512MiB, swap: {size: 512MiB}}
vms:
  a: {backend: qemu, memory: 128MiB, %s}
"""


def after(words: list[str], option: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == option]


class TestArguments:
    def test_a_guest_that_boots(self) -> None:
        words = arguments(HARDWARE, LINES)
        assert after(words, "-m") == ["128"]
        assert after(words, "-kernel") == ["/proc/self/fd/5"]
        assert "spawn=deny" in after(words, "-sandbox")[0]
        assert after(words, "-accel")[0].startswith("tcg,tb-size=")
        assert "free-page-reporting=off" in " ".join(after(words, "-device"))

    def test_a_guest_that_is_restored_has_the_same_devices_and_no_kernel(self) -> None:
        saved = arguments(HARDWARE, replace(LINES, state=9))
        assert after(saved, "-incoming") == ["fd:9"]
        assert not after(saved, "-kernel")
        assert after(saved, "-device") == after(arguments(HARDWARE, LINES), "-device")

    def test_what_a_lab_asks_for(self) -> None:
        hardware = replace(HARDWARE, mergeable=False, reporting=True, accelerator=Accelerator.KVM)
        words = arguments(hardware, replace(LINES, guest_swap=(7, 9), cache_file=(8,)))
        assert after(words, "-machine") == ["q35,mem-merge=off"]
        assert after(words, "-cpu") == ["host"]
        assert "free-page-reporting=on" in " ".join(words)
        assert after(words, "-add-fd") == ["set=1,fd=7", "set=1,fd=9", "set=2,fd=8"]
        assert "snapshot" not in " ".join(after(words, "-drive"))

    def test_every_descriptor_is_handed_over(self) -> None:
        lines = replace(LINES, guest_swap=(7, 8), nic=Nic(9, "02:00:00:00:00:01"))
        assert set(lines.all) == {3, 4, 5, 6, 7, 8, 9}

    def test_a_card_has_its_tap_and_its_address(self) -> None:
        words = arguments(HARDWARE, replace(LINES, nic=Nic(9, "02:00:00:00:00:01")))
        assert after(words, "-netdev") == ["tap,id=net,fd=9"]
        assert "mac=02:00:00:00:00:01" in after(words, "-device")[-1]
        assert not after(arguments(HARDWARE, LINES), "-netdev")


class TestBalloon:
    def test_what_had_been_backed_is_what_is_no_more(self) -> None:
        kept = iter([100, 60, 60, 60, 60])
        book = Balloon(128, lambda: next(kept))
        book.ask(64, 128)
        assert not book.settled
        assert book.settle(64)
        assert (book.held, book.backed, book.settled) == (64, 40, True)
        assert not book.settle(64)
        assert book.settle(96)  # half of it is given back
        assert (book.held, book.backed) == (32, 20)
        book.settle(128)
        assert (book.held, book.backed) == (0, 0)

    def test_never_more_than_it_holds(self) -> None:
        kept = iter([100, 10])
        book = Balloon(128, lambda: next(kept))
        book.ask(20, 128)
        book.settle(108)
        assert book.backed == 20

    def test_a_growth_that_is_seen_in_pieces_is_counted_once(self) -> None:
        kept = iter([100, 90, 70])
        book = Balloon(128, lambda: next(kept))
        book.ask(30, 128)
        book.settle(118)
        book.settle(98)
        assert (book.held, book.backed) == (30, 30)


def test_the_mirror_is_read_as_a_board() -> None:
    mirror = BoardMirror(owner=1)
    board = Board(mirror.fd, "a")
    wanted = Selection(("published_ns", "used_pages", "operations"))
    assert board.counters(wanted) is None
    mirror.update({"used_pages": 7, "operations": 3, "published_ns": 5, "new": 1}, [(4, 9)])
    assert board.counters(wanted) == (5, 7, 3)
    assert board.changed_buckets() == [(4, 9)]
    mirror.update({"operations": 4}, [(999, 1)])
    assert board.counters(wanted) == (5, 7, 4)
    assert board.changed_buckets() == [] and board.frames == 0
    board.close()
    mirror.close()


Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture
def served() -> Iterator[Callable[[Answer], Monitor]]:
    """A monitor whose other end answers as it is told; joined at the end."""
    threads: list[threading.Thread] = []
    monitors: list[Monitor] = []

    def serve(answer: Answer) -> Monitor:
        ours, theirs = socket.socketpair()

        def talk() -> None:
            with theirs:
                theirs.sendall(json.dumps({"QMP": {"version": {}, "capabilities": []}}).encode())
                theirs.sendall(b"\n")
                while asked := theirs.recv(65536):
                    said = json.loads(asked)  # one command at a time, as QEMU answers them
                    found = [] if said["execute"] == "hang" else answer(said)
                    if said["execute"] == "qmp_capabilities":
                        found = [event("RESUME"), {"return": {}}]
                    number = {"id": said["id"]} if "id" in said else {}
                    for one in found:
                        known = one if "event" in one else one | number
                        theirs.sendall(json.dumps(known).encode() + b"\n")

        thread = threading.Thread(target=talk)
        thread.start()
        threads.append(thread)
        monitor = Monitor("a", ours)
        monitors.append(monitor)
        monitor.connect(timeout=5)
        return monitor

    yield serve
    for monitor in monitors:
        monitor.close()
    for thread in threads:
        thread.join(5)


def event(name: str, **data: Any) -> dict[str, Any]:
    return {"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}}


class TestMonitor:
    def test_answers_and_events(self, served: Callable[[Answer], Monitor]) -> None:
        asked: list[dict[str, Any]] = []

        def answer(said: dict[str, Any]) -> list[dict[str, Any]]:
            asked.append(said)
            return [event("BALLOON_CHANGE", actual=7), {"return": {"actual": 9}}]

        monitor = served(answer)
        assert monitor.execute("query-balloon", a_b=1) == {"actual": 9}
        assert asked[-1]["arguments"] == {"a-b": 1}
        # An event may come before the answer to the very first command.
        assert [one["event"] for one in monitor.events()] == ["RESUME", "BALLOON_CHANGE"]
        assert monitor.events() == []

    def test_a_refusal_has_qemu_s_own_words(self, served: Callable[[Answer], Monitor]) -> None:
        error = {"class": "GenericError", "desc": "there is no balloon"}
        monitor = served(lambda _: [{"error": error}])
        with pytest.raises(VmError, match="QEMU refuses balloon: there is no balloon"):
            monitor.execute("balloon")

    def test_silence_and_the_end_are_told_apart(self, served: Callable[[Answer], Monitor]) -> None:
        monitor = served(lambda _: [{"return": {}}])
        with pytest.raises(VmError, match=r"QEMU is silent: no hang within 0\.1 s"):
            monitor.execute("hang", timeout=0.1)
        ours, theirs = socket.socketpair()
        theirs.close()
        gone = Monitor("b", ours)
        with pytest.raises(VmError, match="QEMU has ended: no greeting"):
            gone.connect(timeout=1)
        gone.close()

    def test_a_migration_is_waited_for_by_its_events(
        self, served: Callable[[Answer], Monitor]
    ) -> None:
        def answer(said: dict[str, Any]) -> list[dict[str, Any]]:
            if said["execute"] == "query-migrate":
                return [{"return": {"status": "completed", "total-time": 5}}]
            done = [event("STOP"), event("MIGRATION", status="completed")]
            return [{"return": {}}, *(done if said["execute"] == "migrate" else [])]

        monitor = served(answer)
        assert monitor.migrate("fd:x", timeout=5)["total-time"] == 5
        assert [one["event"] for one in monitor.events()] == ["RESUME", "STOP"]

    def test_a_migration_that_fails_says_why(self, served: Callable[[Answer], Monitor]) -> None:
        def answer(said: dict[str, Any]) -> list[dict[str, Any]]:
            if said["execute"] == "query-migrate":
                return [{"return": {"status": "failed", "error-desc": "no room"}}]
            failed = [event("MIGRATION", status="failed")]
            return [{"return": {}}, *(failed if said["execute"] == "migrate" else [])]

        with pytest.raises(VmError, match="could not move it: no room"):
            served(answer).migrate("fd:x", timeout=5)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("command: [sleep, '1']", "ML038", "runs on the host"),
        ("image: {size: 16MiB}", "ML038", "a real operating system"),
        ("workload: {name: scan, size: 100MiB}", "ML033", "of the guest's kernel is more"),
        ("limit: 64MiB, memory: 64MiB", "ML002", "there twice"),
    ],
)
def test_what_a_qemu_vm_cannot_have(text: str, code: str, words: str) -> None:
    with pytest.raises(LabFileError) as caught:
        loads(LAB % text)
    fault = caught.value.faults[0]
    assert fault.code == code
    assert words in fault.message and fault.fix


@pytest.mark.parametrize(
    ("more", "name", "code", "words"),
    [
        ("shares: 5", "b", "ML038", "is a process"),
        ("guest_swap: 8MiB", "a", "ML038", "has disks"),
        ("count: 2", "a", "ML041", "no VM is called 'a'"),
    ],
)
def test_what_cannot_be_migrated(more: str, name: str, code: str, words: str) -> None:
    text = LAB % more + "  b: {memory: 8MiB}\n" + f"timeline: [{{at: 1s, migrate: {name}}}]\n"
    with pytest.raises(LabFileError) as caught:
        loads(text)
    fault = caught.value.faults[0]
    assert (fault.code, fault.path) == (code, "timeline.0.migrate")
    assert words in fault.message and fault.fix


@pytest.mark.parametrize("size", ["64MiB", "100.5MiB"])
def test_a_guest_of_a_size_that_does_not_boot_is_refused(size: str) -> None:
    with pytest.raises(LabFileError) as caught:
        loads((LAB % "shares: 5").replace("128MiB", size))
    assert caught.value.faults[0].code == "ML018"


def test_overhead_depends_on_the_kind_of_vm_and_of_its_start() -> None:
    lab = loads(LAB % "boot: on" + "  b: {backend: qemu, memory: 96MiB}\n  c: {memory: 8MiB}\n").lab
    assert [overhead_of(vm) for vm in lab.vms] == [BOOT_OVERHEAD, QEMU_OVERHEAD, VM_OVERHEAD]


class Hangs:
    """A monitor whose QEMU has been stopped: no answer comes in time."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def execute(self, command: str, **_: object) -> Any:
        self.asked.append(command)
        raise VmError("g", f"QEMU is silent: no {command} within 2 s") from TimeoutError()


class Machine(QemuMachine):
    """With that monitor."""

    line = Hangs()

    @property
    def monitor(self) -> Monitor:
        return cast(Monitor, self.line)


def test_a_qemu_that_hangs_is_asked_once_until_its_guest_is_heard() -> None:
    """The loop of the lab waits for each answer: five ticks of a policy would be ten seconds."""
    config = VmConfig("g", 1, 128 * MIB, seed=5, backend=Backend.QEMU)
    machine = Machine(config, HARDWARE, cast(Launch, None))
    for _ in range(5):
        with pytest.raises(VmError):
            machine.balloon(32 * MIB)
    assert machine.line.asked == ["query-balloon"]
    machine._show({})
    with pytest.raises(VmError, match="silent"):
        machine.balloon(32 * MIB)
    assert machine.line.asked == ["query-balloon", "query-balloon"]
