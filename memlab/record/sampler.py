"""The sampler: a process of its own that reads all layers on a timetable and stores them.

Standard library only, so that it is small; outside the lab's cgroup, so that the lab's pressure
does not reach it; nothing but reads, and one SQLite file. It ends by itself when the main process
is gone. `record.observer` is the main process's side.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from memlab.errors import HostError, KernelError, MemlabError, RecordingError
from memlab.kernel.files import HOST, Roots
from memlab.kernel.taskstats import Taskstats
from memlab.record.channel import Channel, Closed, Start, decode_vm
from memlab.record.columns import Tier
from memlab.record.reading import HostReader, LabReader
from memlab.record.sample import HOST_FAST, HOST_MEDIUM, LAB_DEEP, LAB_FAST, LAB_MEDIUM, Row, Sample
from memlab.record.store import Recording
from memlab.record.timetable import Timetable
from memlab.record.vmreader import VmReader, Walk, deep_rows

CHECKPOINT_SECONDS: Final = 5.0
"""A power cut loses at most what was recorded in this time."""

_NICE: Final = -10
_MICRO: Final = 1_000_000


class Sampler:
    """Readers, timetables and the recording. Times are microseconds since the run began."""

    def __init__(self, start: Start, tell: Callable[[dict[str, Any]], None], roots: Roots) -> None:
        self._zero = start.clock_zero
        self._tell = tell
        self._roots = roots
        self._files = ExitStack()
        self._recording = Recording.append(start.path, max_size=start.max_size)
        self._files.callback(self._recording.close)
        self._host = HostReader(self._files, roots)
        self._lab = LabReader(start.lab, start.main_pid, start.guard_pid, self._files, roots)
        self._delays = _taskstats(self._files)
        self._vms: dict[str, VmReader] = {}
        self._deep_share = start.periods.deep_share
        self._referenced = start.periods.referenced
        first = self.clock()
        self._tables = {
            tier: Timetable(round(start.periods.of(tier) * _MICRO), first) for tier in Tier
        }
        self._spent = dict.fromkeys(Tier, 0)
        self._lost = dict.fromkeys(Tier, 0)
        self._failed: set[str] = set()
        self._round: Iterator[None] | None = None

    def clock(self) -> int:
        """Microseconds since the run began, by CLOCK_BOOTTIME."""
        return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._zero) // 1000

    def add(self, raw: dict[str, Any], board_fd: int | None) -> None:
        """Sample this VM from now on. The descriptor stays the caller's."""
        target, info = decode_vm(raw)
        try:
            reader = VmReader(
                target, board_fd, delays=self._delays, referenced=self._referenced,
                roots=self._roots,
            )  # fmt: skip
        except (KernelError, OSError) as error:
            if error.errno == errno.EMFILE:
                raise _too_many_files(len(self._vms)) from error
            raise RecordingError(
                f"VM {target.name} cannot be sampled: {error}", hint="has it ended already?"
            ) from error
        self.remove(target.name)
        self._recording.add_vm(info)
        self._vms[target.name] = reader
        self._failed.discard(target.name)

    def remove(self, name: str) -> None:
        """Sample this VM no more. Harmless if there is none of that name."""
        reader = self._vms.pop(name, None)
        if reader is not None:
            reader.close()

    def told(self, name: str, columns: dict[str, int | None]) -> None:
        """Put these raw columns into the rows of a VM from now on."""
        if reader := self._vms.get(name):
            reader.told(columns)

    def deep_now(self) -> None:
        """Let the next deep sample be due at once."""
        self._tables[Tier.DEEP].due = self.clock()

    def step(self) -> float:
        """Do the one thing that is due; seconds until the next one is."""
        now = self.clock()
        for tier, take in ((Tier.FAST, self._fast), (Tier.MEDIUM, self._medium)):
            if self._tables[tier].due <= now:
                with self._charged_to(tier):
                    take(self._tables[tier].take(now))
                return 0.0
        if self._round is None and self._tables[Tier.DEEP].due <= now:
            self._round = self._deep(self._tables[Tier.DEEP].take(now))
        if self._round is not None:
            with self._charged_to(Tier.DEEP):
                if next(self._round, self) is self:
                    self._round = None
            return 0.0
        return (min(table.due for table in self._tables.values()) - now) / _MICRO

    @contextmanager
    def _charged_to(self, tier: Tier) -> Iterator[None]:
        began = time.thread_time_ns()
        try:
            yield
        finally:
            self._spent[tier] += time.thread_time_ns() - began

    def _fast(self, missed: int) -> None:
        sample = Sample(Tier.FAST, self.clock(), missed=missed)
        configured = sum(reader.target.configured for reader in self._vms.values())
        sample.host = HOST_FAST.row(self._host.fast())
        sample.lab = LAB_FAST.row(self._lab.fast(len(self._vms), configured))
        sample.vms = self._each(VmReader.fast)
        self._store(sample)

    def _medium(self, missed: int) -> None:
        sample = Sample(Tier.MEDIUM, self.clock(), missed=missed)
        sample.host = HOST_MEDIUM.row(self._host.medium())
        sample.lab = LAB_MEDIUM.row(self._lab.medium())
        sample.vms = self._each(VmReader.medium)
        sample.latency = [
            (name, bucket, count)
            for name, _ in sample.vms
            for bucket, count in self._vms[name].latency()
        ]
        self._store(sample)

    def _deep(self, missed: int) -> Iterator[None]:
        """A round over the VMs, one a step, so that the other tiers keep their deadlines."""
        began, walks = self.clock(), list[Walk]()
        before = self._lab.levels()["usage"]
        walked = set[str]()
        while (name := next((vm for vm in self._vms if vm not in walked), None)) is not None:
            walk = self._walk(name)
            walks += [] if walk is None else [walk]
            walked.add(name)
            yield
        if not walks:
            return
        memory, levels = self._host.memory(), self._lab.levels()
        unique, rows = deep_rows(walks)
        values = self._lab.medium() | levels | {
            "unique_frames": unique,
            "usage_before": before,
            "usage_after": levels["usage"],
            "host_zswap": memory["zswap"],
            "host_zswapped": memory["zswapped"],
        }  # fmt: skip
        yield  # so that the cost of all this is known
        cost = self._spent[Tier.DEEP] // 1000
        values["walk_cpu_us"] = cost
        self._tables[Tier.DEEP].not_before(began + round(cost / self._deep_share))
        self._store(
            Sample(Tier.DEEP, began, missed=missed, lab=LAB_DEEP.row(values), vms=rows)
        )  # fmt: skip

    def _each(self, read: Callable[[VmReader], Row | None]) -> list[tuple[str, Row]]:
        """What `read` gives for each VM that has not ended. No call more than it takes: hot."""
        rows = []
        for name, reader in self._vms.items():
            try:
                row = read(reader)
            except KernelError as error:
                self._tell_once(name, error)
                continue
            if row is not None:
                rows.append((name, row))
        return rows

    def _tell_once(self, name: str, error: KernelError) -> None:
        """A file that cannot be read costs this VM's row, and is told once."""
        if name not in self._failed:
            self._failed.add(name)
            self._tell({"trouble": f"VM {name} cannot be sampled: {error.message}"})

    def _walk(self, name: str) -> Walk | None:
        try:
            return self._vms[name].deep(self.clock)
        except KernelError as error:
            self._tell_once(name, error)
            return None

    def _store(self, sample: Sample) -> None:
        """Commit, and tell of it. What cannot be stored is a gap; the next one is tried again."""
        tier = sample.tier
        sample.ended = self.clock()
        sample.cpu_us, self._spent[tier] = self._spent[tier] // 1000, 0
        sample.missed += self._lost[tier]
        try:
            number = self._recording.write_sample(sample)
        except RecordingError as error:
            if not any(self._lost.values()):
                self._tell({"trouble": error.message, "hint": error.hint})
            self._lost[tier] = sample.missed + 1
            return
        self._lost[tier] = 0
        self._tell({"tier": str(tier), "sample": number})

    def close(self) -> None:
        """Close all files; the recording stays as it is, for the main process to finish."""
        for name in list(self._vms):
            self.remove(name)
        self._files.close()


def _taskstats(stack: ExitStack) -> Taskstats | None:
    """The kernel's answers on task delays; None where it has none, or we may not ask."""
    try:
        return stack.enter_context(Taskstats())
    except (HostError, KernelError):
        return None


def _too_many_files(vms: int) -> RecordingError:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return RecordingError(
        f"the sampler may open no more files: {hard} are used up by {vms} VMs",
        hint=f"raise the hard limit (ulimit -Hn, now {hard}) to {hard * 2}, or use fewer VMs",
    )


def serve(channel: Channel, start: Start, roots: Roots = HOST) -> None:
    """Sample until the other side says stop, or is gone."""
    sampler = Sampler(start, channel.tell, roots)
    try:
        wait = 0.0
        while True:
            received = channel.receive(wait)
            if received is not None and _obey(sampler, channel, *received):
                return
            wait = sampler.step()
    except Closed:
        return
    finally:
        sampler.close()


def _obey(sampler: Sampler, channel: Channel, message: dict[str, Any], fds: list[int]) -> bool:
    """Do what a message says and answer if it has an `id`; whether it was the last one."""
    answer: dict[str, Any] = {"id": message.get("id"), "ok": True}
    try:
        match message["do"]:
            case "add":
                sampler.add(message["vm"], fds[0] if fds else None)
            case "remove":
                sampler.remove(message["name"])
            case "told":
                sampler.told(message["name"], message["columns"])
            case "deep":
                sampler.deep_now()
    except MemlabError as error:
        answer |= {"ok": False, "error": error.message, "hint": error.hint}
    finally:
        for fd in fds:
            os.close(fd)
    if answer["id"] is not None:
        channel.send(answer)
    return bool(message["do"] == "stop")


def checkpoint_regularly(path: Path, ended: Event) -> None:
    """Carry the log into the file every few seconds, in a thread: the disk may take its time."""
    with Recording.append(path) as recording:
        while not ended.wait(CHECKPOINT_SECONDS):
            try:
                recording.checkpoint()
            except RecordingError:
                continue  # a full disk; writing samples meets it too, and says so


def prepare_process() -> None:
    """As many files as allowed, before others on the CPU, deaf to the terminal's interrupt."""
    gc.freeze()  # what is imported stays; a sample's rows make no cycles worth looking for
    gc.set_threshold(50_000)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    except PermissionError:
        return  # then it samples less punctually; missed deadlines are recorded


def main(fd: int) -> int:
    """The whole life of the sampler process; `fd` is its end of the line."""
    prepare_process()
    channel = Channel(socket.socket(fileno=fd))
    try:
        received = channel.receive(timeout=30)
        if received is None:
            return 1
        start, ended = Start.decode(received[0]), Event()
        thread = Thread(target=checkpoint_regularly, args=(start.path, ended), daemon=True)
        thread.start()
        try:
            serve(channel, start)
        finally:
            ended.set()
            thread.join()
    except Closed:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
