"""Labs with QEMU guests, from outside: the bundled one, and what breaks while one runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from memlab.lab.load import load, loads, resolve
from memlab.lab.outcome import RunOutcome, Said
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.report.html import page
from memlab.units import MIB
from tests.faults.trial import Trial, on_this_host

pytestmark = pytest.mark.vm
QUICK = Path(__file__).with_name("quick.yaml")
PRESSURE = Path(__file__).with_name("pressure.yaml")


@pytest.fixture
def trial() -> Iterator[Trial]:
    with on_this_host("vm-") as trial:
        yield trial


def run(text: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> RunOutcome:
    monkeypatch.setenv("MEMLAB_DIR", str(folder))
    outcome = Session(prepare(loads(text)), Nobody()).run()
    outcome.restored.check()
    return outcome


def test_the_bundled_lab_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMLAB_DIR", str(tmp_path))
    outcome = Session(prepare(load(resolve("qemu"))), Nobody()).run()
    assert outcome.said is Said.PASSED, outcome.reasons
    assert outcome.restored.ok and not outcome.restored.left
    with Derived.open(outcome.recording) as source:
        facts = source.manifest["qemu"]
        assert set(facts["accelerator"]) == {"web", "batch"}
        residual = source.series(Entity.LAB, "residual").between(*source.window).known
        used = source.series(Entity.LAB, "used").known
        assert residual and max(map(abs, residual)) <= 0.04 * max(used)
        assert median(map(abs, residual)) <= 0.02 * max(used)
        text = page(source)
    assert "QEMU: accelerator" in text and "Page sharing, VM by VM" in text


def test_without_qemu_the_lab_is_refused_in_one_sentence(trial: Trial) -> None:
    (trial.folder / "bin").mkdir()
    with trial.up("--dry-run", lab=QUICK, env={"PATH": str(trial.folder / "bin")}) as lab:
        assert lab.main.wait(20) == 3
        said = lab.said
    assert "need qemu-system-x86_64, which is not installed" in said
    assert "apt-get install qemu-system-x86" in said


def test_a_killed_qemu_is_an_event_and_the_others_run_on(trial: Trial) -> None:
    with trial.up(lab=QUICK, duration="8s") as lab:
        lab.until(lambda: lab.said.count(" runs\n") == 3, "all run", within=60)
        os.kill(lab.vm("guest-1"), signal.SIGKILL)
        lab.until(lambda: lab.events("vm-ended"), "its end is an event", within=2)
        before = lab.committed()
        lab.until(lambda: lab.committed().sample > before.sample + 20, "sampling goes on")
        lab.end(within=60)
        assert lab.events("vm-ended") == ["guest-1"]
        assert lab.recording is not None
        with Derived.open(lab.recording) as source:
            ends = {
                vm: source.series(Entity.VM, "resident", vm).times[-1] for vm in source.vms
            }  # the report shows the gap
            checked = {event.vm for event in source.events() if event.kind == "verify"}
            assert "guest-1" in page(source)
        assert ends["guest-1"] < ends["guest-2"] - 1
        assert checked == {"guest-2", "beside"}


def test_a_guest_that_hangs_is_noticed_and_its_return_too(trial: Trial) -> None:
    with trial.up(lab=QUICK, duration="14s") as lab:
        lab.until(lambda: lab.said.count(" runs\n") == 3, "all run", within=60)
        os.kill(lab.vm("guest-2"), signal.SIGSTOP)
        lab.until(lambda: lab.events("guest-silent"), "its silence is an event", within=8)
        os.kill(lab.vm("guest-2"), signal.SIGCONT)
        lab.until(lambda: lab.events("guest-answers"), "it is heard again", within=5)
        lab.end(within=60)
        assert lab.events("guest-silent") == ["guest-2"]


def test_kill_9_of_memlab_leaves_nothing(trial: Trial) -> None:
    with trial.up(lab=QUICK, duration="30s") as lab:
        lab.until(lambda: lab.said.count(" runs\n") == 3, "all run", within=60)
        guests = [lab.vm("guest-1"), lab.vm("guest-2")]
        lab.main.kill()
        lab.main.wait()
        assert trial.given_back() < 10
        assert not any(map(lives, guests))


def lives(pid: int) -> bool:
    """Whether it runs; one that has ended may wait for its new parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


SHARING = """
name: sharing
seed: 9
host: {memory: 1200MiB, swap: {size: 64MiB}}
mechanisms: {tps: {pages_to_scan: 20000, sleep: 10ms}, compression: off}
policy: static
vms:
  a:
    count: 4
    backend: qemu
    memory: 128MiB
    workload: {name: idle, size: 8MiB}
timeline:
  - at: 9s
    set: {vms.a.workload: {name: idle, size: 40MiB, content: {common: %s}}}
sample: {fast: 250ms, medium: 500ms, deep: 500ms}
duration: 22s
window: {from: 17s, until: 22s}
"""


def test_the_saving_of_four_equal_guests_is_what_can_be_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Held against guests whose pages are unique: the guests' kernels take merged frames for
    their workload, and lose that saving, in both."""
    saved = {}
    for common in ("75%", "0%"):
        outcome = run(SHARING % common, monkeypatch, tmp_path / common.strip("%"))
        assert outcome.said is Said.PASSED
        with Derived.open(outcome.recording) as source:
            sharing = source.series(Entity.LAB, "saved_sharing")
            before = max(sharing.between(6, 9).known)
            saved[common] = max(sharing.between(17, 22).known)
            by_vm = [max(source.series(Entity.VM, "saved_common", vm).known) for vm in source.vms]
        assert before > 4 * 25 * MIB  # the guests' own pages
        assert all(value > 25 * MIB for value in by_vm)
    computed = 3 * 0.75 * 40 * MIB  # each common page stands once for four
    assert saved["75%"] - saved["0%"] == pytest.approx(computed, rel=0.03)


def test_pages_that_leave_and_come_back_are_in_the_guest_s_latency(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outcome = run(PRESSURE.read_text(), monkeypatch, tmp_path)
    assert outcome.said is Said.PASSED, outcome.reasons  # no page lost: verify is part of it
    with Derived.open(outcome.recording) as source:
        before, under = (
            # About a tenth of the operations has to wait. The slowest hundredth of the others is
            # the neighbours': an emulated processor that is not scheduled.
            source.percentile("guest", 0.95, start, end)
            for start, end in ((4, 8), (12, 22))
        )
        compressed = max(source.series(Entity.LAB, "compressed").known)
        swapped = max(source.series(Entity.LAB, "swapped").known)
        out = source.series(Entity.VM, "out", "guest")
    assert before is not None and under is not None
    assert under > 2 * before
    assert compressed > 16 * MIB and swapped > 8 * MIB
    assert max(out.between(12, 22).known) > 32 * MIB


def test_what_is_ballooned_is_not_sent_and_what_is_swapped_comes_back_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEMLAB_DIR", str(tmp_path))
    outcome = Session(prepare(load(resolve("migrate"))), Nobody()).run()
    assert outcome.said is Said.PASSED, outcome.reasons
    with Derived.open(outcome.recording) as source:
        moved = {event.vm: event.data for event in source.events() if event.kind == "migrated"}
        out = source.series(Entity.VM, "out", "swapped")
        private = source.series(Entity.VM, "private", "swapped")
        refused = [event for event in source.events() if event.kind == "refused"]
        processes = [event for event in source.events() if event.kind == "vm-ended"]
    assert not refused and not processes
    assert moved["ballooned"]["sent"] < moved["resident"]["sent"] - 32 * MIB
    assert moved["swapped"]["sent"] > moved["ballooned"]["sent"] + 32 * MIB
    # QEMU tells both in whole milliseconds, rounded down each by itself.
    times = {vm: (one["downtime"], one["seconds"]) for vm, one in moved.items()}
    assert all(0 <= down <= whole + 0.002 for down, whole in times.values()), times
    assert max(out.between(8, 13).known) > 64 * MIB
    assert out.known[-1] < 16 * MIB  # the source had to read it all, the destination has it
    assert private.known[-1] > max(private.between(8, 13).known) + 48 * MIB
