"""Process VMs in cgroups, as a user that owns nothing, on the real kernel."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memlab.errors import HostError, KernelError, VmError
from memlab.kernel.ksm import merges_whole_processes
from memlab.units import MIB, PAGE
from memlab.vm.base import Content, Image, VmConfig
from memlab.vm.child import Child, Identity, Places, nobody_else
from memlab.vm.command import CommandVm
from memlab.vm.disk import open_guest_disk
from memlab.vm.process import ProcessVm
from tests import guests
from tests.kernel.lacking import kernel, lacking
from tests.pace import slowness

pytestmark = pytest.mark.kernel

SMALL = Image("test", 2 * MIB, Content(zero=0.1, common=0.5))


def own_memory_group() -> Path:
    """The memory cgroup that the tests run in, v1 or v2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/")
    return Path("/sys/fs/cgroup") / line.split("::")[1].lstrip("/")


@pytest.fixture
def group() -> Iterator[Path]:
    path = own_memory_group() / f"memlab-test-{os.getpid()}"
    path.mkdir()
    yield path
    deadline = time.monotonic() + 5
    while True:
        try:
            path.rmdir()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{path} is still in use"
            time.sleep(0.02)


def charged(group: Path) -> int:
    for name in ("memory.usage_in_bytes", "memory.current"):
        if (group / name).exists():
            return int((group / name).read_text())
    raise AssertionError(group)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: line.split(":")[1].strip() for line in lines}


def in_group(group: Path, **changes: object) -> ProcessVm:
    config = guests.config(16 * MIB, **({"image": SMALL} | changes))
    return ProcessVm(config, Places(group, join=(group,)), identity=nobody_else())


def test_a_vm_is_in_its_cgroup_before_its_memory_is(group: Path) -> None:
    vm = in_group(group, workload=guests.work("idle", 4 * MIB))
    vm.start()
    try:
        vm.wait_ready(timeout=10)
        said = guests.filled(vm)
        assert str(vm.pid) in (group / "cgroup.procs").read_text().split()
        guest = (said["used_pages"] + said["reserved_pages"]) * PAGE
        assert guest > 6 * MIB
        # The second witness of the same pages; the stock of each CPU is up to 64 pages.
        slack = 64 * PAGE * (os.cpu_count() or 1)
        assert guest - slack <= charged(group) <= guest + int(1.5 * MIB) + slack
    finally:
        vm.stop(timeout=2)


def test_the_agent_owns_nothing_and_gains_nothing(group: Path) -> None:
    vm = in_group(group)
    vm.start()
    try:
        vm.wait_ready(timeout=10)
        said, identity = status(vm.pid), nobody_else()
        assert said["Uid"].split() == [str(identity.uid)] * 4
        assert said["Gid"].split() == [str(identity.gid)] * 4
        assert said["Groups"] == ""
        assert said["NoNewPrivs"] == "1"
        assert int(said["CapEff"], 16) == int(said["CapPrm"], 16) == 0
        assert os.getsid(vm.pid) == vm.pid
    finally:
        vm.stop(timeout=2)


@pytest.mark.parametrize("memory", [16 * MIB, 1024 * MIB])
def test_overhead_does_not_grow_with_the_vm(group: Path, memory: int) -> None:
    """All private memory that is not guest memory, from smaps."""
    config = guests.config(memory, image=SMALL, workload=guests.work("idle", 8 * MIB))
    vm = ProcessVm(config, Places(group, join=(group,)), identity=nobody_else())
    vm.start()
    try:
        vm.wait_ready(timeout=10)
        guests.filled(vm)
        other, inside = 0, False
        for line in Path(f"/proc/{vm.pid}/smaps").read_text().splitlines():
            if "-" in line.split()[0] and ":" not in line.split()[0]:
                inside = int(line.split("-")[0], 16) == vm.target.ram_start
            elif line.startswith(("Private", "Shared_Dirty")) and not inside:
                other += int(line.split()[1]) * 1024
        assert other <= 1.5 * MIB
    finally:
        vm.stop(timeout=2)


def test_a_deaf_vm_is_ended_by_its_pidfd(group: Path) -> None:
    vm = in_group(group)
    vm.start()
    vm.wait_ready(timeout=10)
    pid = vm.pid
    signal.pidfd_send_signal(vm.pidfd, signal.SIGSTOP)
    vm.stop(timeout=0.2)
    assert vm.ended() == "killed by SIGKILL"
    assert not Path(f"/proc/{pid}").exists(), "reaped"
    vm.stop(timeout=0.2)


def test_a_vm_that_is_killed_says_so(group: Path) -> None:
    vm = in_group(group)
    vm.start()
    vm.wait_ready(timeout=10)
    assert vm.ended() is None
    signal.pidfd_send_signal(vm.pidfd, signal.SIGKILL)
    assert guests.until(vm.ended) == "killed by SIGKILL"
    vm.stop(timeout=1)


def test_the_journal_hears_of_a_vm_before_it_is_anywhere(group: Path) -> None:
    heard: list[int] = []

    def hear(pid: int) -> None:
        assert (group / "cgroup.procs").read_text() == ""
        heard.append(pid)

    vm = ProcessVm(guests.config(), Places(group, join=(group,)), on_spawn=hear)
    vm.start()
    vm.wait_ready(timeout=10)
    assert heard == [vm.pid]
    vm.stop(timeout=2)


def test_a_cgroup_that_is_not_there_leaves_no_process(group: Path) -> None:
    heard: list[int] = []
    places = Places(group, join=(group / "missing",))
    vm = ProcessVm(guests.config(), places, on_spawn=heard.append)
    with pytest.raises(KernelError, match="missing"):
        vm.start()
    assert not Path(f"/proc/{heard[0]}").exists()
    vm.stop(timeout=1)


def test_a_hundred_vms_are_ready_in_five_seconds(group: Path) -> None:
    began = time.monotonic()
    vms = [in_group(group, name=f"vm-{n}", owner=n) for n in range(1, 101)]
    try:
        for vm in vms:
            vm.start()
        for vm in vms:
            vm.wait_ready(timeout=10)
        assert time.monotonic() - began <= 5 * slowness()
        assert len((group / "cgroup.procs").read_text().split()) == 100
    finally:
        for vm in vms:
            vm.stop(timeout=2)


def test_a_guest_disk_leaves_no_page_in_the_hosts_cache(group: Path, tmp_path: Path) -> None:
    fd = open_guest_disk(tmp_path, 32 * MIB)
    config = guests.config(16 * MIB, image=SMALL)
    vm = ProcessVm(config, Places(group, join=(group,)), identity=nobody_else(), guest_swap_fd=fd)
    vm.start()
    try:
        vm.wait_ready(timeout=10)
        guests.set_work(vm, "toucher", 24 * MIB, period=0.5)
        guests.until(lambda: guests.stats(vm)["guest_swap_in"] > 1000, timeout=30)
        assert guests.verify(vm)["bad"] == 0
        lines = (group / "memory.stat").read_text().splitlines()
        values = {line.split()[0]: int(line.split()[1]) for line in lines}
        cached = values.get("cache", values.get("file", 0)) - values.get("shmem", 0)
        assert cached <= 1 * MIB
    finally:
        vm.stop(timeout=2)
        os.close(fd)


def test_a_filled_disk_is_read_through_the_guests_cache(group: Path, tmp_path: Path) -> None:
    size = 3 * MIB + 5 * PAGE
    fd = open_guest_disk(tmp_path, size, name="disk", fill=True)
    raw = (tmp_path / "disk").read_bytes()
    assert len(raw) == size
    assert len({raw[at : at + PAGE] for at in range(0, size, PAGE)}) == size // PAGE
    config = guests.config(16 * MIB, image=SMALL, workload=guests.work("cache", size, zipf=0))
    vm = ProcessVm(config, Places(group, join=(group,)), identity=nobody_else(), cache_fd=fd)
    vm.start()
    try:
        vm.wait_ready(timeout=10)
        guests.until(lambda: guests.stats(vm)["cache_pages"] == size // PAGE)
        with Path(f"/proc/{vm.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(vm.target.ram_start or 0)
            ram = memory.read(config.memory)
        seen = {ram[at : at + PAGE] for at in range(0, len(ram), PAGE)}
        assert {raw[at : at + PAGE] for at in range(0, size, PAGE)} <= seen
    finally:
        vm.stop(timeout=2)
        os.close(fd)


def test_a_disk_that_cannot_be_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no guest disk in"):
        open_guest_disk(tmp_path / "missing", MIB)
    with pytest.raises(HostError, match="no guest disk in"):
        open_guest_disk(tmp_path, 1 << 60, name="huge")
    assert list(tmp_path.iterdir()) == []


def command_vm(group: Path, log: Path, *argv: str, mergeable: bool = False) -> CommandVm:
    config = VmConfig("cmd", 1, 64 * MIB, command=argv, mergeable=mergeable)
    return CommandVm(config, Places(group, join=(group,)), log=log, identity=Identity(65534, 65534))


def test_a_command_runs_in_the_cgroup_with_no_rights(group: Path, tmp_path: Path) -> None:
    script = f"cat /proc/self/status; grep -q $$ {group}/cgroup.procs && echo inside; exec sleep 60"
    vm = command_vm(group, tmp_path / "log", "sh", "-c", script)
    vm.start()
    vm.wait_ready(timeout=5)
    said = guests.until(lambda: (text := vm.last_words()).endswith("inside") and text)
    assert "NoNewPrivs:\t1" in said
    assert "Uid:\t65534\t65534\t65534\t65534" in said
    assert (vm.target.ram_start, vm.link, vm.board_fd) == (None, None, None)
    assert vm.ended() is None
    vm.stop(timeout=2)
    assert vm.ended() == "killed by SIGTERM"


def test_a_mergeable_command_is_so_as_a_whole(group: Path, tmp_path: Path) -> None:
    if not merges_whole_processes():
        lacking("PR_SET_MEMORY_MERGE", "run it on 6.4 or later")
    vm = command_vm(group, tmp_path / "log", "sleep", "60", mergeable=True)
    vm.start()
    vm.wait_ready(timeout=5)
    try:
        if kernel() >= (6, 15):  # it says so since then
            path = Path(f"/proc/{vm.pid}/ksm_stat")
            assert guests.until(lambda: "ksm_merge_any: yes" in path.read_text())
        assert guests.until(lambda: "mg" in flags_of_the_heap(vm.pid)), "as is each mapping"
    finally:
        vm.stop(timeout=2)


def flags_of_the_heap(pid: int) -> list[str]:
    """VmFlags of the first mapping that is private and writable, from smaps."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    found = re.search(r" rw-p .*?^VmFlags:([^\n]*)", text, re.MULTILINE | re.DOTALL)
    return found[1].split() if found else []


def test_a_mergeable_command_runs_where_nothing_merges_it(
    group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memlab.kernel.ksm.merges_whole_processes", lambda: False)
    vm = command_vm(group, tmp_path / "log", "sleep", "60", mergeable=True)
    vm.start()
    vm.wait_ready(timeout=5)
    assert not vm.target.mergeable
    assert "mg" not in flags_of_the_heap(vm.pid)
    vm.stop(timeout=2)


def test_a_command_that_cannot_run_says_why(group: Path, tmp_path: Path) -> None:
    vm = command_vm(group, tmp_path / "log", "/no/such/program")
    vm.start()
    assert guests.until(vm.ended) == "exited 1"
    with pytest.raises(VmError, match="cannot run /no/such/program: No such file"):
        vm.wait_ready(timeout=1)
    vm.stop(timeout=1)


def test_a_helper_whose_host_dies_runs_nothing(group: Path, tmp_path: Path) -> None:
    from memlab.guest.build import agent_path

    waits, goes = os.pipe2(os.O_CLOEXEC)
    mark = tmp_path / "mark"
    argv = [str(agent_path()), "--exec", "--wait", str(waits), "--", "touch", str(mark)]
    child = Child("cmd", argv, places=Places(group, join=(group,)), pass_fds=(waits,))
    os.close(waits)
    os.close(goes)
    assert child.ended(patience=5) == "exited 125"
    assert not mark.exists()
    child.end(patience=1)


def test_no_descriptor_of_ours_is_in_the_guest(group: Path) -> None:
    secret, _other = socket.socketpair()
    vm = in_group(group)
    vm.start()
    vm.wait_ready(timeout=10)
    kinds = [path.readlink().name for path in Path(f"/proc/{vm.pid}/fd").iterdir()]
    assert len(kinds) == 5, kinds  # three streams, the line, the board
    vm.stop(timeout=2)
    secret.close()
    _other.close()
