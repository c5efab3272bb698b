"""The bundled labs on the real kernel: what each is there to show, and that it can fail."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from memlab.kernel.lock import LEFT
from memlab.kernel.rundir import place
from memlab.lab.load import load, loads, resolve
from memlab.lab.outcome import RunOutcome, Said
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.units import MIB, PAGE
from tests.foreign import foreign_pages

pytestmark = pytest.mark.kernel

OWN_EXPECT = {
    "tps": "sharing saves 32 MiB",
    "balloon": "the balloon holds 32 MiB that had been backed",
    "compression": "compression saves 32 MiB",
    "swap": "the swap device holds 32 MiB",
}


@pytest.fixture(autouse=True)
def _runs_go_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLAB_DIR", str(tmp_path))


def run(name: str, *sets: str, i_know: bool = False) -> RunOutcome:
    outcome = Session(prepare(load(resolve(name), sets=sets), i_know=i_know), Nobody()).run()
    outcome.restored.check()
    assert not outcome.restored.left
    return outcome


def text_of(outcome: RunOutcome) -> str:
    return "\n".join((outcome.said, *outcome.reasons, *(f"{one}" for one in outcome.expects)))


def failed(outcome: RunOutcome) -> set[str]:
    return {one.name for one in outcome.expects if one.outcome != Said.PASSED}


def test_quickstart_holds_all_four_mechanisms_and_accounts_for_every_page() -> None:
    outcome = run("quickstart")
    assert outcome.said is Said.PASSED, text_of(outcome)
    with Derived.open(outcome.recording) as source:
        assert source.series(Entity.LAB, "overcommitment").known[-1] >= 1.5
        for vm in source.vms:
            closes(source, vm)
        used = source.series(Entity.LAB, "used")
        peak = max(used.between(*source.window).known)
        residual = source.series(Entity.LAB, "residual").between(*source.window).known
        assert median(abs(value) for value in residual) <= 0.02 * peak
        assert all(
            not any(source.series(Entity.VM, name, vm).known)
            for name in ("compressed", "pool")
            for vm in source.vms
            if "vm.compressed" in source.manifest["absent"]
        )


def closes(source: Derived, vm: str) -> None:
    """Both identities of one VM, in 99 % of at least 30 deep samples over all VMs."""
    configured = source.series(Entity.VM, "configured", vm).known[-1]
    for name in ("residual_guest", "residual_host", "frames_differ"):
        values = source.series(Entity.VM, name, vm).known
        good = sum(abs(value) <= 0.01 * configured for value in values)
        assert len(values) >= 20, (vm, name, len(values))
        assert good >= 0.99 * len(values), (vm, name, good, len(values))


@pytest.mark.parametrize("mechanism", OWN_EXPECT)
def test_without_a_mechanism_its_own_expectation_fails(mechanism: str) -> None:
    outcome = run("quickstart", f"mechanisms.{mechanism}=off", i_know=mechanism == "swap")
    assert OWN_EXPECT[mechanism] in failed(outcome), text_of(outcome)
    assert outcome.exit_code == 1


def test_the_ghost_stays_until_the_balloon_takes_it() -> None:
    outcome = run("ghost")
    assert outcome.said is Said.PASSED, text_of(outcome)


def test_compression_holds_its_budget() -> None:
    outcome = run("compression")
    assert outcome.said is Said.PASSED, text_of(outcome)


def test_without_pressure_nothing_leaves_memory() -> None:
    outcome = run("baseline")
    assert outcome.said is Said.PASSED, text_of(outcome)


SHARING = """
name: twins
host: {{memory: 256MiB}}
mechanisms:
  tps: {{pages_to_scan: 20000, sleep: 10ms}}
  balloon: off
  compression: off
  swap: off
policy: static
defaults:
  memory: 16MiB
  workload: {{name: idle, size: 12MiB, content: {{zero: 25%, common: 45%}}}}
vms:
{vms}
duration: {duration}s
sample: {{deep: 500ms}}
expect:
  - {{name: no VM was killed, that: 'events("oom-kill") == 0'}}
"""
STEP = 4
"""Seconds from one VM's start to the next: ksmd settles in less."""


def test_n_equal_vms_save_what_can_be_computed_though_others_share_pages_too() -> None:
    """1…10 VMs, one more every few seconds; N·P − (1 + C + N·U) pages, within 1 %."""
    vms = "\n".join(f"  twin-{n}: {{start: {(n - 1) * STEP}s}}" for n in range(1, 11))
    loaded = loads(SHARING.format(vms=vms, duration=10 * STEP), name="twins.memlab.yaml")
    with foreign_pages(24 * MIB):
        outcome = Session(prepare(loaded), Nobody()).run()
    outcome.restored.check()
    # The others' pages stay merged. They are theirs, so nothing is left of the lab's.
    assert outcome.restored.left == ()
    assert any("ksm/pages_shared" in note for note in outcome.restored.notes)
    assert not (place() / LEFT).exists()
    with Derived.open(outcome.recording) as source:
        saved = source.series(Entity.LAB, "saved_sharing")
        foreign = source.series(Entity.HOST, "ksm_foreign").known
        assert max(foreign) >= 20 * MIB  # others do share meanwhile
        beside = [one.data["size"] for one in source.events() if one.kind == "foreign-sharer"]
        assert 24 * MIB in beside, "whose pages they are is said"
        for count in range(1, 11):
            settled = saved.between(count * STEP - 1.5, count * STEP - 0.1).known
            expected = computed(count)
            found = settled[-1] / PAGE
            assert abs(found - expected) <= max(0.01 * expected, 8), (count, found, expected)


def computed(count: int) -> float:
    """Pages saved by `count` VMs of 3,072 pages: 768 zero, 1,382 common, the rest unique.

    A frame has at most 256 sharers (max_page_sharing), so the zero pages keep one frame for each
    256 of them. A page with no equal keeps its own frame.
    """
    pages, zero, common = 3072, 768, round(3072 * 0.45)
    unique = pages - zero - common
    zero_frames = -(-count * zero // 256)
    common_frames = common
    return count * pages - (zero_frames + common_frames + count * unique)
