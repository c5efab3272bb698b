"""Single guests: started, ballooned, killed, and what their memory looks like from the host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memlab.errors import VmError
from memlab.guest.cachedir import discard_unfinished
from memlab.guest.image import GuestImage
from memlab.kernel.pagemap import PageClasses, PageWalker
from memlab.lab.fleet import PER_GUEST_SECONDS, READY_SECONDS
from memlab.record.board import Board, Selection
from memlab.units import MIB, PAGE
from memlab.vm.base import Content, VmConfig, WorkloadConfig
from memlab.vm.process import workload_fields
from memlab.vm.qemu import QemuVm
from memlab.vm.state import VARIABLE
from tests.faults.trial import children, words
from tests.vm.conftest import Start, broken

pytestmark = pytest.mark.vm
HALF = Content(zero=0.25, common=0.25, compressible=2)
NAMES = ("used_pages", "cache_pages", "free_pages", "ballooned_pages", "reserved_pages",
         "operations")  # fmt: skip


def backed(vm: QemuVm) -> int:
    """Bytes of guest memory that have a frame or a slot."""
    found = classes(vm)
    return (found.private + found.shared + found.out) * PAGE


def classes(vm: QemuVm) -> PageClasses:
    target = vm.target
    assert target.ram_start is not None and target.ram_bytes is not None
    with PageWalker(target.pid, target.ram_start, target.ram_bytes) as walker:
        found = walker.walk(None)
    assert found is not None
    return found


def counters(vm: QemuVm) -> dict[str, int]:
    """What the guest has reported, pages."""
    vm.events()
    assert vm.board_fd is not None
    board = Board(vm.board_fd, vm.config.name)
    values = board.counters(Selection(NAMES))
    board.close()
    known = [0 if value is None else value for value in values or (0,) * len(NAMES)]
    return dict(zip(NAMES, known, strict=True))


def contents(vm: QemuVm) -> set[int]:
    """Hashes of the pages of guest memory."""
    target = vm.target
    assert target.ram_start is not None and target.ram_bytes is not None
    with Path(f"/proc/{target.pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(target.ram_start)
        return {hash(memory.read(PAGE)) for _ in range(target.ram_bytes // PAGE)}


def until(holds: Callable[[], bool], what: str, *, within: float = 30.0) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within, f"not within {within} s: {what}"
        time.sleep(0.05)


def work(vm: QemuVm, name: str, size: int = 0, **args: float) -> None:
    config = VmConfig(vm.config.name, vm.config.owner, vm.config.memory,
                      workload=WorkloadConfig(name, size, HALF, args))  # fmt: skip
    vm.link.call("workload", **workload_fields(config))


def verified(vm: QemuVm) -> int:
    """Checks every page of the application; how many there were."""
    answer = vm.link.call("verify", timeout=60)
    assert answer["bad"] == 0 and answer["inconsistent"] is None
    return int(answer["checked"])


def until_touched(vm: QemuVm, size: int) -> None:
    until(lambda: vm.link.call("stats")["app_touched_pages"] * PAGE == size, "all is touched")


def used_and_freed(vm: QemuVm, size: int) -> None:
    """The guest allocates, uses and frees `size`: its kernel has the pages, and so has the host."""
    work(vm, "idle", size)
    until_touched(vm, size)
    verified(vm)
    assert vm.link.call("free", size=size)["freed"] == size


def test_a_guest_starts_from_a_saved_state_as_nobody_and_works(start: Start) -> None:
    vm = start(workload=WorkloadConfig("keyvalue", 32 * MIB, HALF, {"writes": 0.2}))
    assert vm.release and vm.ended() is None
    status = Path(f"/proc/{vm.pid}/status").read_text()
    assert "\nUid:\t0" not in status and "\nGid:\t0" not in status
    assert "-incoming" in vm.command and "-kernel" not in vm.command
    until(lambda: counters(vm)["operations"] > 1000, "it works")
    assert verified(vm) == 32 * MIB // PAGE
    known = counters(vm)
    parts = sum(known[name] for name in NAMES[:5])
    assert parts == 128 * MIB // PAGE
    vm.stop(timeout=5)
    assert vm.ended() == "exited 0"  # the agent has switched its machine off


def test_a_guest_boots_where_the_lab_asks_for_it(start: Start) -> None:
    vm = start(boot=True)
    assert "-kernel" in vm.command
    assert vm.link.call("stats")["reserved_pages"] > 0


def test_eight_guests_start_at_once(start: Start) -> None:
    vms = [start(ready=False) for _ in range(8)]
    for vm in vms:
        vm.wait_ready(timeout=60)
    assert len({vm.pid for vm in vms}) == 8


@pytest.mark.parametrize("boot", [False, True], ids=["restored", "booted"])
def test_eight_guests_on_busy_cores_are_all_ready_in_time(start: Start, boot: bool) -> None:
    """Four processes that do nothing but work stand beside them; the deadline is that of a lab."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        vms = [start(ready=False, boot=boot) for _ in range(8)]
        for vm in vms:
            vm.wait_ready(timeout=READY_SECONDS + 8 * PER_GUEST_SECONDS)
            work(vm, "keyvalue", 16 * MIB, rate=100)
        until(lambda: all(counters(vm)["operations"] > 10 for vm in vms), "all work")
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_clones_are_told_apart(start: Start) -> None:
    """Unique pages are unique although all guests come from one state."""
    one, other = start(), start()
    for vm in (one, other):
        work(vm, "idle", 8 * MIB)
        until_touched(vm, 8 * MIB)
    counted = [vm.link.call("stats") for vm in (one, other)]
    assert counted[0]["common_pages"] == counted[1]["common_pages"] > 0
    assert verified(one) == verified(other) == 2048
    mine, theirs = contents(one), contents(other)
    assert len(mine - theirs) >= 1024  # the half of the 2,048 that is neither zero nor common
    assert len(mine & theirs) >= 512


def test_the_balloon_gives_back_what_it_takes_and_takes_it_again(start: Start) -> None:
    vm = start(256 * MIB)
    used_and_freed(vm, 112 * MIB)
    before = backed(vm)
    vm.balloon(64 * MIB)
    until(lambda: counters(vm)["ballooned_pages"] * PAGE == 64 * MIB, "the balloon has it")
    fallen = before - backed(vm)
    assert fallen == pytest.approx(64 * MIB, rel=0.02)
    assert vm.monitor.execute("query-balloon")["actual"] == 192 * MIB
    vm.balloon(0)
    until(lambda: counters(vm)["ballooned_pages"] == 0, "it is deflated")
    assert before - backed(vm) == pytest.approx(fallen, rel=0.02)  # deflating backs nothing
    work(vm, "idle", 176 * MIB)
    until_touched(vm, 176 * MIB)
    assert backed(vm) >= before
    assert verified(vm) == 176 * MIB // PAGE


def test_freed_memory_stays_with_the_host_unless_the_guest_reports_it(start: Start) -> None:
    ghost, reporting = start(256 * MIB), start(256 * MIB, reporting=True)
    held = {}
    for vm in (ghost, reporting):
        work(vm, "idle", 64 * MIB)
        until_touched(vm, 64 * MIB)
        held[vm.config.name] = backed(vm)
        vm.link.call("free", size=64 * MIB)
    least = held[reporting.config.name] - 60 * MIB
    until(lambda: backed(reporting) <= least, "it is reported", within=20)
    assert backed(ghost) >= held[ghost.config.name] - MIB


def test_a_guest_swaps_to_its_own_disk_and_loses_nothing(start: Start) -> None:
    vm = start(128 * MIB, guest_swap=96 * MIB)
    work(vm, "keyvalue", 104 * MIB, writes=0.3, rate=2000)
    until(lambda: vm.link.call("stats")["guest_swap_pages"] > 0, "it swaps", within=60)
    assert verified(vm) > 0


def test_a_guest_s_page_cache_is_its_kernel_s(start: Start) -> None:
    vm = start(128 * MIB, cache_file=24 * MIB)
    work(vm, "cache", 24 * MIB, zipf=0.0)
    until(lambda: counters(vm)["cache_pages"] * PAGE > 20 * MIB, "the file is cached")


def test_a_guest_that_cannot_start_shows_its_command_line_and_last_words(
    start: Start, image: GuestImage, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(VmError) as caught:
        start(boot=True, image=broken(image, tmp_path))
    assert "before the guest was ready" in caught.value.message
    assert "-machine q35" in caught.value.message
    assert "kernel" in caught.value.last


def test_a_killed_qemu_is_told_and_its_stop_is_harmless(start: Start) -> None:
    vm = start()
    os.kill(vm.pid, signal.SIGKILL)
    until(lambda: vm.ended() is not None, "it has ended", within=5)
    assert vm.ended() == "killed by SIGKILL"
    assert vm.events() == []
    with pytest.raises(VmError):
        vm.balloon(MIB)
    vm.stop(timeout=1)


def test_a_memlab_that_is_killed_while_it_makes_a_state_leaves_no_guest(tmp_path: Path) -> None:
    script = (
        "from memlab.guest.image import micro_guest; from memlab.vm.state import saved_state; "
        "from memlab.vm.hardware import Accelerator, Hardware; "
        "from memlab.vm.child import nobody_else; "
        "saved_state(Hardware(96 << 20, Accelerator.TCG), micro_guest(), identity=nobody_else())"
    )
    maker = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, VARIABLE: str(tmp_path)}
    )
    until(lambda: any("qemu" in words(pid) for pid in children(maker.pid)), "QEMU boots")
    (guest,) = (pid for pid in children(maker.pid) if "qemu" in words(pid))
    maker.kill()
    maker.wait()
    until(lambda: "qemu" not in words(guest), "it is gone", within=5)
    assert not list(tmp_path.glob("*.state"))
    discard_unfinished(tmp_path)  # as the next one does who holds the lock
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}
