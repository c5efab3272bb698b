"""A main process that changes everything a lab changes, for tests that kill it.

    python lab_in_miniature.py FOLDER RUN_ID [VMS]

Owner, guard, knobs of KSM and zswap, a swap file with pages in it, a cgroup with VMs below it
(processes with mergeable memory), a file. It says `ready` and waits for a line; then it gives all
back and says `done`. Each VM waits until it has been journalled, and ends if that never comes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from memlab.kernel import cgroup, swap
from memlab.kernel.entries import Header, Process, SwapKind
from memlab.kernel.files import HOST, read_int
from memlab.kernel.owner import Owner, acquire
from memlab.kernel.task import Task, start_time
from memlab.units import MIB

VM = """
import mmap, sys, time
if not sys.stdin.readline():
    sys.exit()
ram = mmap.mmap(-1, int(sys.argv[2]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
ram.madvise(mmap.MADV_MERGEABLE)
ram.write(b"memlab" * (len(ram) // 6))
sys.stdout.write("up\\n"); sys.stdout.flush()
time.sleep(600)
"""
KNOBS = (
    (HOST.ksm / "pages_to_scan", "20000"),
    (HOST.ksm / "sleep_millisecs", "10"),
    (HOST.ksm / "run", "1"),
    (HOST.zswap / "max_pool_percent", "10"),
    (HOST.zswap / "enabled", "Y"),
)


def start_vm(run_id: str, size: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-I", "-S", "-c", VM, f"memlab-{run_id}-vm", str(size)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def build(owner: Owner, folder: Path, run_id: str, vms: int, size: int) -> None:
    journal = owner.journal
    group = cgroup.lab_group(run_id)
    groups = [group, *(group.child(f"vm{number}") for number in range(vms))]
    journal.cgroup(*(one.path for one in groups), *(one.unified_path or one.path for one in groups))
    for one in groups:
        one.create()
    journal.swap(folder / "swap", SwapKind.FILE)
    swap.make_file(folder / "swap", 64 * MIB)
    swap.swapon(folder / "swap")
    for path, value in KNOBS:
        journal.turn(path, value)
    journal.file(folder / "disk")
    (folder / "disk").write_text("a guest's disk")
    started = [start_vm(run_id, size) for _ in range(vms)]
    journal.processes(
        Process(Task(vm.pid, start_time(vm.pid) or 0), one.path)
        for vm, one in zip(started, groups[1:], strict=True)
    )
    for vm, one in zip(started, groups[1:], strict=True):
        one.add(vm.pid)
        assert vm.stdin is not None
        vm.stdin.write("go\n")
        vm.stdin.flush()
    for vm in started:
        assert vm.stdout is not None
        vm.stdout.readline()
    deadline = time.monotonic() + 10
    while size > MIB and not read_int(HOST.ksm / "pages_shared"):
        assert time.monotonic() < deadline, "ksmd merges nothing"
        time.sleep(0.02)


def main(folder: Path, run_id: str, vms: int = 2, size: int = 8 * MIB) -> None:
    header = Header.of_this_process("miniature", run_id, folder, results=folder / "results")
    owner = acquire(header, path=folder / "run")
    owner.guard.settle(owner.journal, (cgroup.own_memory_group() / f"memlab-{run_id}-guard",))
    print(owner.guard.facts.task.pid, flush=True)  # noqa: T201  its voice is its output
    build(owner, folder, run_id, vms, size)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    owner.close().check()
    print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *(int(word) for word in sys.argv[3:]))
