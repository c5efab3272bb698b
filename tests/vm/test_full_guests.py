"""Guests that boot disks of their own: with memlab's agent, and without."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from memlab.errors import VmError
from memlab.guest.drive import open_drive
from memlab.kernel.cgroup import lab_group
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.report.html import page
from memlab.units import MIB, PAGE
from memlab.vm.base import Backend, VmConfig, WorkloadConfig
from memlab.vm.child import Places, nobody_else
from memlab.vm.full import FullVm
from memlab.vm.hardware import Accelerator, Hardware
from memlab.vm.launch import RootDisk
from memlab.vm.qcow import check_disk, make_overlay, open_disk
from tests.faults.trial import Trial, on_this_host
from tests.vm.bootable import make_disk
from tests.vm.test_guests import until

pytestmark = pytest.mark.vm
LAB = Path(__file__).with_name("full.yaml")
MEMORY = 192 * MIB
IDLE = WorkloadConfig()
Boot = Callable[..., FullVm]


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A disk with the agent in it (True), and one without."""
    folder = tmp_path_factory.mktemp("disks")
    return {agent: make_disk(folder, agent=agent) for agent in (True, False)}


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def boot(disks: dict[bool, Path]) -> Iterator[Boot]:
    """boot(agent=…, workload=…, wait=…): a guest that has been started, not waited for."""
    with ExitStack() as stack:
        group = lab_group(f"vmtest-full-{os.getpid()}")
        group.create()
        stack.callback(group.remove)

        def one(*, agent: bool = True, workload: WorkloadConfig = IDLE, wait: float = 60) -> FullVm:
            disk = disks[agent]
            given = [
                open_disk(disk),
                make_overlay(Path("/var/tmp"), check_disk(disk)),
                open_drive(),
            ]
            for fd in given:
                stack.callback(os.close, fd)
            config = VmConfig("full", 1, MEMORY, backend=Backend.QEMU, workload=workload)
            vm = FullVm(
                config, Places.of(group), Hardware(MEMORY, Accelerator.TCG),
                disk=RootDisk(*given), agent_seconds=wait, identity=nobody_else(),
                report_seconds=0.1,
            )  # fmt: skip
            stack.callback(vm.stop, timeout=0)
            before = digest(disk)
            stack.callback(lambda: check(disk, before))
            vm.start()
            return vm

        yield one


def check(disk: Path, before: str) -> None:
    assert digest(disk) == before, "the user's own disk was written to"


def stats(vm: FullVm) -> dict[str, Any]:
    assert vm.link is not None
    return vm.link.call("stats")


def test_any_program_runs_in_it_and_is_measured(boot: Boot) -> None:
    words = (
        "sh",
        "-c",
        "x=$(head -c 3000000 /dev/zero | tr '\\0' x); echo \"it's\" done; sleep 60",
    )
    vm = boot(workload=WorkloadConfig(command=words))
    vm.wait_ready(timeout=30)
    assert "a system of its own" in vm.last_words()
    assert stats(vm)["workload"] == "command"
    before = stats(vm)
    until(lambda: stats(vm)["app_touched_pages"] * PAGE > 3_000_000, "its memory is counted")
    assert stats(vm)["minor_faults"] > before["minor_faults"]
    until(lambda: "160+0 records out" in vm.last_words(), "it has written to its disk")
    # Another program takes its place; what it has started in the background ends with it.
    other = ("sh", "-c", "sleep 61 & sleep 0.2; echo 'so it \"ends\"'; exit 3")
    assert vm.link is not None
    vm.link.call("workload", name="idle", size=0, command=list(other))
    said: list[dict[str, Any]] = []

    def told() -> bool:
        said.extend(vm.events())
        return bool(said)

    until(told, "its end is told")
    assert said[0] == {"event": "program-ended", "why": "exited 3", "last": 'so it "ends"\n'}
    assert stats(vm)["phase"] == "ended"
    assert stats(vm)["app_touched_pages"] > 0  # the other sleep
    vm.link.call("workload", name="idle", size=8 * MIB)
    until(lambda: stats(vm)["app_touched_pages"] * PAGE == 8 * MIB, "the agent's own work")


def test_what_it_cannot_run_is_refused_with_the_guest_s_reason(boot: Boot) -> None:
    vm = boot(workload=WorkloadConfig(command=("no-such-program",)))
    with pytest.raises(VmError, match="cannot run no-such-program: No such file") as caught:
        vm.wait_ready(timeout=30)
    assert "a system of its own" in caught.value.last


def test_a_guest_without_an_agent_runs_on_unless_it_was_to_work(boot: Boot) -> None:
    vm = boot(agent=False, wait=1)
    vm.wait_ready(timeout=30)
    assert vm.link is None
    assert {"event": "no-agent", "waited": 1} in vm.events()
    working = boot(agent=False, wait=1, workload=WorkloadConfig("idle", 8 * MIB))
    with pytest.raises(VmError, match="not heard within 1 s, and its workload needs it"):
        working.wait_ready(timeout=30)


def test_both_in_one_lab(disks: dict[bool, Path]) -> None:
    before = {path: digest(path) for path in disks.values()}
    with on_this_host("full-") as trial:
        recording = run_both(trial, next(iter(disks.values())).parent)
        with Derived.open(recording) as source:
            facts = source.manifest["qemu"]
            assert facts["from"] == {"with": "disk", "without": "disk"}
            used = source.series(Entity.VM, "used", "with").known
            assert max(used) - min(used) == pytest.approx(23 * MIB, rel=0.1)
            assert not source.series(Entity.VM, "operations", "without").known
            assert not source.series(Entity.VM, "touched", "without").known
            assert source.series(Entity.VM, "touched", "with").known
            free = source.series(Entity.VM, "free", "without")
            assert min(free.known) > 0
            held = source.series(Entity.VM, "ballooned", "without").known
            assert max(held) == 48 * MIB
            ends = {event.kind: event for event in source.events()}
            assert ends["no-agent"].vm == "without"
            assert ends["program-ended"].data["why"] == "exited 3"
            assert ends["program-ended"].data["last"].endswith("done\n")
            assert "no-agent" in page(source)
    assert {path: digest(path) for path in disks.values()} == before


def run_both(trial: Trial, folder: Path) -> Path:
    """The lab from its begin to its end, with a look from inside; its recording."""
    lab_file = folder / LAB.name
    lab_file.write_text(LAB.read_text())
    with trial.up(lab=lab_file, duration="24s") as lab:
        lab.until(lambda: lab.said.count(" runs") == 2, "both run", within=90)
        assert "without runs, without an agent: it is measured from outside" in lab.said
        answer = lab.ask({"verb": "exec", "vm": "with", "command": ["ping", "10.0.255.254"]})
        assert 0 < answer["answer"]["seconds"] < 1  # its card was found by its address
        assert lab.end(within=90) == 0, lab.said
        assert lab.recording is not None
        return lab.recording
