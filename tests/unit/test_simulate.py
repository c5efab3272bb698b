"""The memory model by itself: what must hold whatever the figures are."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from memlab.control.policies import POLICIES
from memlab.control.policy import Decision, Mechanism, View
from memlab.control.static import Static
from memlab.errors import UsageError
from memlab.lab.load import load, loads, resolve
from memlab.lab.spec import Lab
from memlab.simulate.active import Active
from memlab.simulate.arrays import APP, FREED, STRATA, Groups
from memlab.simulate.demand import layered
from memlab.simulate.fleet import fleet, places
from memlab.simulate.fleets import Task, under
from memlab.simulate.fleets import simulate as simulate_task
from memlab.simulate.governors import Governors
from memlab.simulate.model import Model
from memlab.simulate.pages import machine_used, slots_used
from memlab.simulate.run import run
from memlab.simulate.savings import saved
from memlab.simulate.steps import Steps
from memlab.simulate.views import views
from memlab.units import MIB, PAGE

LABS = (
    *("quickstart", "contention-desktops", "contention-hot", "contention-phases"),
    *("contention-bootstorm", "contention-cache", "compression", "active"),
    "idle-tax",
)
NONE_AT_ALL = 1e-6
"""Pages that rounding may make of none."""


def lab_of(name: str, *sets: str) -> Lab:
    return load(resolve(name), sets=sets).lab


def model_of(lab: Lab, *, vms: int | None = None, hosts: int = 1, relaxed: bool = False) -> Model:
    return Model(fleet(lab, places(lab, vms=vms, hosts=hosts, seed=1), relaxed=relaxed), seed=1)


def small(workload: str, *, budget: str = "64MiB", more: str = "", vm: str = "") -> Lab:
    text = f"""
name: small
host: {{memory: {budget}, swap: {{size: 1GiB}}}}
policy: static
{more}
vms:
  a:
    memory: 128MiB
    workload: {workload}
    {vm}
duration: 10s
"""
    return loads(text).lab


def advance(model: Model, seconds: float, step: float = 0.05) -> None:
    for _ in range(round(seconds / step)):
        model.step(step)


def check_accounts(model: Model) -> None:
    """No page is lost, made, or counted twice; no level is below none."""
    pages, of = model.pages, model.fleet
    assert np.abs(pages.residual(of)).max() < NONE_AT_ALL
    levels = (
        *pages.by_stratum, pages.untouched, pages.ballooned, pages.backed, pages.pool,
        pages.swap_cache, pages.stored, pages.seen,
    )  # fmt: skip
    for level in levels:
        assert np.isfinite(level).all()
        assert level.min() > -NONE_AT_ALL
    not_merged = pages.private + pages.pooled + pages.device
    assert (pages.equal <= not_merged + NONE_AT_ALL).all()
    assert (pages.cached <= pages.device + NONE_AT_ALL).all()
    assert (pages.backed <= pages.ballooned + NONE_AT_ALL).all()
    assert (slots_used(pages, model.shared, of) <= of.slots + NONE_AT_ALL).all()
    assert (model.shared.frames <= model.shared.pages + NONE_AT_ALL).all()
    savings = saved(pages, model.shared, of)
    configured = of.hosts.sum(of.configured)
    overhead = of.hosts.sum(of.overhead * (pages.untouched + pages.ballooned < of.configured))
    cached = of.hosts.sum(pages.swap_cache)
    not_used = configured + overhead + cached - machine_used(pages, model.shared, of)
    four = savings.sharing + savings.balloon + savings.compression + savings.swap
    assert np.abs(four + savings.never_touched - not_used).max() < NONE_AT_ALL


@pytest.mark.parametrize("name", LABS)
@pytest.mark.parametrize("policy", ["static", "best", "esxi6", "mom"])
def test_every_page_is_accounted_for(name: str, policy: str) -> None:
    lab = under(lab_of(name), policy)
    model = model_of(lab, vms=3 * len(lab.vms), hosts=2)
    governors = Governors(model, lab)
    steps = Steps(lab, governors)
    with np.errstate(all="raise", under="ignore"):
        for number in range(1, 121):
            steps.take(model.time)
            model.step(0.125)
            if number % 4 == 0:
                governors.decide()
            check_accounts(model)
    assert not governors.deeds.failed


def test_the_budget_is_kept_but_for_what_a_tick_brings() -> None:
    model = model_of(lab_of("compression"))
    for _ in range(200):
        model.step(0.05)
        assert model.used[0] <= 1.03 * model.budget[0]


@pytest.mark.parametrize("name", LABS)
def test_a_host_with_enough_memory_loses_no_work(name: str) -> None:
    lab = under(lab_of(name), "none")
    where = places(lab, vms=None, hosts=1, seed=1)
    found = run(lab, where, relaxed=True)
    assert found.major_faults == 0
    assert found.stalled == 0
    assert found.saved == dict.fromkeys(Mechanism, 0.0)


def test_enough_memory_is_as_good_as_more() -> None:
    lab = small("{name: keyvalue, size: 96MiB}", budget="200MiB")
    enough = run(lab, places(lab, vms=None, hosts=1, seed=1))
    more = run(lab, places(lab, vms=None, hosts=1, seed=1), relaxed=True)
    assert enough.work.sum() == more.work.sum() > 0


def test_more_memory_never_means_less_work() -> None:
    work = []
    for budget in (24, 32, 48, 64, 80, 96, 112, 128):
        lab = small("{name: keyvalue, size: 112MiB}", budget=f"{budget}MiB")
        work.append(float(run(lab, places(lab, vms=None, hosts=1, seed=1)).work.sum()))
    assert all(more >= less * 0.999 for less, more in itertools.pairwise(work))
    assert work[-1] > 3 * work[0]


def test_a_pool_that_compresses_better_saves_more_and_loses_less() -> None:
    found = []
    for ratio in (2, 3, 4):  # below 2 more has to be pushed out for a frame than the pool is worth
        more = "mechanisms: {compression: {pool: 30%}, balloon: off, tps: off}"
        application = f"{{name: keyvalue, size: 112MiB, content: {{compressible: {ratio}}}}}"
        lab = small(application, more=more)
        found.append(run(lab, places(lab, vms=None, hosts=1, seed=1)))
    savings = [one.saved[Mechanism.COMPRESSION] for one in found]
    assert savings == sorted(savings)
    work = [float(one.work.sum()) for one in found]
    assert work == sorted(work)


@pytest.mark.parametrize("charged", [False, True])
def test_on_cgroup_v1_the_pool_s_cap_is_set_aside(charged: bool) -> None:
    """The VMs' frames never exceed the budget without it; on v2 they do while the pool is small."""
    lab = small(
        "{name: keyvalue, size: 112MiB, content: {compressible: 4}}",
        more="mechanisms: {compression: {pool: 25%}, balloon: off, tps: off}",
    )
    where = places(lab, vms=None, hosts=1, seed=1)
    model = Model(fleet(lab, where, pool_charged=charged), seed=1)
    frames = []
    for _ in range(200):
        model.step(0.05)
        frames.append(float((model.used - model.pages.pool)[0]))
    without = float((model.fleet.budget - model.fleet.pool_cap)[0])
    assert (max(frames) <= without + 1) is not charged
    assert max(frames) > without - 1, "or it says nothing"
    relaxed = fleet(lab, where, relaxed=True, pool_charged=charged)
    assert not relaxed.set_aside.any()


def test_a_slower_device_costs_more() -> None:
    """Pages on the device cost more than those in the pool: a larger pool means more work."""
    work = []
    for pool in ("0%", "10%", "20%", "30%"):
        more = f"mechanisms: {{compression: {{pool: {pool}}}, balloon: off, tps: off}}"
        lab = small("{name: keyvalue, size: 112MiB, content: {compressible: 4}}", more=more)
        work.append(float(run(lab, places(lab, vms=None, hosts=1, seed=1)).work.sum()))
    assert work == sorted(work)
    assert work[-1] > work[0]


def test_sharing_saves_what_the_formula_says() -> None:
    """published-results: ideal machine pages of N equal VMs are 1 + C + N·U."""
    text = """
name: twins
host: {memory: 512MiB}
mechanisms: {tps: {pages_to_scan: 20000, sleep: 10ms}, compression: off, swap: off}
policy: static
vms:
  twin: {count: 4, memory: 64MiB, workload: {name: idle, size: 48MiB, content: {zero: 25%, common: 45%}}}
duration: 20s
"""  # noqa: E501
    lab = loads(text).lab
    model = model_of(lab)
    advance(model, 20)
    pages = 48 * MIB / PAGE
    zero, common = 0.25 * pages, 0.45 * pages
    ideal = 4 * (zero + common) - common - 4 * zero / 256
    assert saved(model.pages, model.shared, model.fleet).sharing[0] == pytest.approx(
        ideal, rel=0.01
    )


def test_vms_of_another_image_do_not_share() -> None:
    text = """
name: strangers
host: {memory: 512MiB}
mechanisms: {tps: {pages_to_scan: 20000, sleep: 10ms}, compression: off, swap: off}
policy: static
defaults: {memory: 64MiB}
vms:
  a: {image: {name: one, size: 32MiB, common: 100%}}
  b: {image: {name: two, size: 32MiB, common: 100%}}
duration: 10s
"""
    model = model_of(loads(text).lab)
    advance(model, 10)
    assert saved(model.pages, model.shared, model.fleet).sharing[0] == pytest.approx(0, abs=1)


def test_hosts_do_not_share_with_each_other() -> None:
    lab = lab_of("contention-desktops", "policy=static")
    model = model_of(lab, vms=4, hosts=4)
    advance(model, 5)
    zero = model.pages.merged.sum() * (1 - model.fleet.common.min())
    assert saved(model.pages, model.shared, model.fleet).sharing.sum() <= zero


def test_a_write_parts_a_merged_page() -> None:
    work = "{name: toucher, size: 32MiB, content: {zero: 100%}, args: {writes: 100%, period: 1s}}"
    lab = small(work, budget="512MiB", more="mechanisms: {tps: {pages_to_scan: 5000}}")
    model = model_of(lab)
    advance(model, 8)
    assert model.pages.merged[APP].sum() < 0.01 * model.pages.touched[APP].sum()


def test_what_a_burst_frees_is_a_ghost_until_the_balloon_takes_it() -> None:
    lab = small("{name: burst, size: 64MiB, args: {hold: 1s, pause: 1h}}", budget="512MiB")
    model = model_of(lab)
    advance(model, 3)
    ghosts = model.pages.touched[FREED].sum()
    assert ghosts == pytest.approx(64 * MIB / PAGE)
    before = model.used[0]
    model.balloons.target[:] = 64 * MIB / PAGE
    advance(model, 2)
    assert model.pages.backed[0] == pytest.approx(ghosts)
    assert before - model.used[0] == pytest.approx(ghosts)
    model.balloons.target[:] = 0
    advance(model, 1)
    assert model.pages.ballooned[0] == 0
    check_accounts(model)


def test_a_balloon_never_takes_what_is_used() -> None:
    model = model_of(small("{name: keyvalue, size: 96MiB}", budget="512MiB"))
    advance(model, 1)
    model.balloons.target[:] = model.fleet.configured
    advance(model, 5)
    assert model.pages.touched[APP].sum() == pytest.approx(96 * MIB / PAGE)
    assert model.pages.untouched.min() >= 0


def test_a_limit_holds_for_its_vm_alone() -> None:
    lab = loads("""
name: two
host: {memory: 1GiB, swap: {size: 1GiB}}
policy: static
mechanisms: {tps: off, compression: off}
defaults: {memory: 128MiB, workload: {name: keyvalue, size: 96MiB, args: {rate: 1000}}}
vms:
  tied: {limit: 64MiB}
  free: {}
duration: 5s
""").lab
    model = model_of(lab)
    advance(model, 5)
    tied, free = model.pages.private.sum(axis=0) * PAGE
    assert tied <= 66 * MIB
    assert free > 96 * MIB


def test_a_step_of_the_timeline_is_taken_by_every_copy() -> None:
    lab = small(
        "{name: idle, size: 16MiB}",
        budget="512MiB",
        more="timeline:\n  - {at: 1s, set: {vms.a.balloon: 32MiB}}",
    )
    model = model_of(lab, vms=6, hosts=2)
    governors = Governors(model, lab)
    steps = Steps(lab, governors)
    steps.take(0.5)
    assert not model.balloons.target.any()
    steps.take(1.0)
    assert (model.balloons.target * PAGE == 32 * MIB).all()
    assert not steps.notes


def test_memory_for_all_is_not_taken_away_by_the_timeline() -> None:
    """Each step presses the VM of 128 MiB that uses 96; without them it does all of its work."""
    timeline = """timeline:
  - {at: 1s, set: {host.memory: 16MiB, vms.a.balloon: 80MiB}}
  - {at: 1s, set: {vms.a.limit: 16MiB, vms.a.reclaim: 90%}}
"""
    work = "{name: keyvalue, size: 96MiB, args: {rate: 200000}}"
    lab = under(small(work, budget="200MiB", more=timeline), "none")
    where = places(lab, vms=None, hosts=1, seed=1)
    relaxed, pressed = run(lab, where, relaxed=True), run(lab, where)
    assert relaxed.major_faults == 0
    assert relaxed.saved == dict.fromkeys(Mechanism, 0.0)
    assert relaxed.work.sum() == pytest.approx(200_000, rel=1e-3)
    assert pressed.work.sum() < 0.9 * relaxed.work.sum()


MINE = """
from dataclasses import dataclass
from memlab.control.policy import Decision
from memlab.control.settings import percent, text


@dataclass(frozen=True)
class Settings:
    keep: float = percent(0.1, "x")
    order: str = text("abc", "x")


class Mine:
    settings_type = Settings

    def __init__(self, settings):
        self.settings = settings

    def decide(self, view):
        return Decision("stands")
"""


def test_a_user_s_policy_takes_its_settings_from_the_timeline_as_it_does_live(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    text = """
name: own
host: {memory: 64MiB}
mechanisms: {compression: off, swap: off}
policy: {name: "./mine.py:Mine"}
vms: {a: {memory: 32MiB}}
duration: 5s
timeline:
  - {at: 1s, set: {policy.settings.keep: 50%}}
  - {at: 2s, set: {policy.settings.order: cab}}
  - {at: 3s, set: {policy.settings.keep: half}}
  - {at: 4s, set: {policy.settings.keep: [1]}}
  - {at: 4s, set: {policy.settings.kept: 1%}}
"""
    lab = loads(text, name=str(tmp_path / "own.memlab.yaml")).lab
    governors = Governors(model_of(lab, vms=2, hosts=2), lab, folder=tmp_path)
    steps = Steps(lab, governors)
    steps.take(5.0)
    assert [(one.settings.keep, one.settings.order) for one in governors.policies] == [
        (0.5, "cab"), (0.5, "cab"),
    ]  # fmt: skip
    assert steps.notes == [
        "not set: policy.settings.keep: 'half' is not a percentage",
        "not set: policy.settings.keep: '[1]' is not a percentage",
        "not set: policy.settings.kept: policy Mine has no setting 'kept'",
    ]


def test_another_workload_frees_the_first_and_fills_the_second() -> None:
    lab = small(
        "{name: idle, size: 64MiB}",
        budget="512MiB",
        more="timeline:\n  - {at: 1s, set: {vms.a.workload: {name: keyvalue, size: 32MiB}}}",
    )
    found = run(lab, places(lab, vms=None, hosts=1, seed=1), keep=True)
    assert found.moments[10].operations == 0
    assert found.work.sum() > 0
    model = model_of(lab)
    advance(model, 1)
    model.start_application([0], lab.vms[0])
    check_accounts(model)


def test_what_cannot_be_modelled_is_said() -> None:
    lab = lab_of("quickstart", "defaults.huge=on")
    notes = run(lab, places(lab, vms=None, hosts=1, seed=1), seconds=1).notes
    assert any("huge pages" in note for note in notes)


def test_a_guest_with_its_own_swap_gives_what_it_uses() -> None:
    work = "{name: keyvalue, size: 96MiB, args: {rate: 100}}"
    model = model_of(small(work, budget="512MiB", vm="guest_swap: 64MiB"))
    advance(model, 1)
    model.balloons.target[:] = 64 * MIB / PAGE
    advance(model, 3)
    assert model.pages.ballooned[0] == pytest.approx(64 * MIB / PAGE)
    apart = model.pages.guest_swapped.sum() + model.pages.touched[APP].sum()
    assert apart == pytest.approx(96 * MIB / PAGE)
    check_accounts(model)


def test_an_application_may_be_larger_than_its_guest_with_swap() -> None:
    model = model_of(small("{name: idle, size: 160MiB}", budget="512MiB", vm="guest_swap: 64MiB"))
    advance(model, 3)
    apart = model.pages.guest_swapped.sum() + model.pages.touched[APP].sum()
    assert apart == pytest.approx(160 * MIB / PAGE)
    check_accounts(model)


def test_what_was_made_old_goes_first_unless_it_is_used() -> None:
    """Two quiet VMs and two busy ones; one of each is made old before memory is taken from all."""
    text = """
name: old
host: {memory: 330MiB, swap: {size: 1GiB}}
policy: static
defaults: {memory: 128MiB}
vms:
  quiet: {count: 2, workload: {name: idle, size: 96MiB}}
  busy: {count: 2, workload: {name: keyvalue, size: 96MiB, args: {rate: 1000000}}}
duration: 10s
"""
    model = model_of(loads(text).lab)
    advance(model, 4)
    out = model.pages.out.sum(axis=0) * PAGE / MIB
    assert out[0] == pytest.approx(out[1], rel=0.05), "before, the quiet pay alike"
    model.make_old(0)
    model.make_old(2)
    model.budget -= 24 * MIB / PAGE
    advance(model, 2)
    gone = model.pages.out.sum(axis=0) * PAGE / MIB - out
    assert gone[0] > 15 and gone[0] > 4 * gone[1]
    assert gone[2] == pytest.approx(gone[3], abs=3), "what is used is young again"
    check_accounts(model)


def test_the_oldest_of_a_vm_are_those_it_does_not_use() -> None:
    """Its image of 32 MiB is never used after the boot; page after page takes of all alike."""
    work = "{name: keyvalue, size: 64MiB, args: {rate: 1000000}}"
    text = small(work, budget="512MiB", vm="image: {name: x, size: 32MiB}")
    gone = {}
    for oldest in (False, True):
        model = model_of(text)
        advance(model, 3)
        wanted = np.full(1, 24 * MIB / PAGE)
        assert model.push_out(wanted, Mechanism.SWAP, oldest=oldest)[0] == wanted[0]
        gone[oldest] = model.pages.out[APP].sum() * PAGE / MIB
        check_accounts(model)
    assert gone[True] < 1 and gone[False] > 12


def test_the_idle_memory_tax_moves_memory_as_the_formula_says() -> None:
    """docs/active.md: 45 and 45 MiB untaxed; 26 (104/256 of 64) and 64 with 75 %; +40 % work."""
    lab = lab_of("idle-tax")
    model = model_of(lab)
    governors = Governors(model, lab)
    steps = Steps(lab, governors)
    seen = {}
    for number in range(1, 1321):
        steps.take(model.time)
        operations = model.step(0.05).operations / 0.05
        if number % 5 == 0:
            governors.decide()
        if number in (560, 1320):
            seen[number] = (model.pages.private.sum(axis=0) * PAGE / MIB, operations[1])
    untaxed, taxed = seen[560], seen[1320]
    assert untaxed[0] == pytest.approx([45, 45], rel=0.05)
    assert taxed[0] == pytest.approx([26, 64], rel=0.05)
    assert 1.15 < taxed[1] / untaxed[1] < 1.6


def used(part: float) -> Any:
    """Flows in which so much of 128 MiB is filled, and nothing else is used."""
    return SimpleNamespace(
        rates=np.zeros((STRATA, 1)), fill=np.full((1, 1), part * 128 * MIB / PAGE)
    )


def in_mib(active: Active, model: Model) -> float:
    found = active.estimate(model.pages)
    assert found is not None
    return float(found[0]) * PAGE / MIB


def test_active_memory_is_the_largest_of_three_averages() -> None:
    """The agent's law (guest/agent/sample.c) by hand, of a VM of 128 MiB that uses all or nothing.

    After a period of nothing both averages are 0. In the middle of one that has used all: 0.7·1 +
    0.3·0 of 128 MiB; at its end slow 0.25, fast 0.7. A period of nothing: in its middle still 0.7,
    at its end slow 0.1875, fast 0.3·0.7 = 0.21. All again: 0.7·1 + 0.3·0.21 = 0.763 at once.
    """
    model = model_of(small("{name: idle, size: 0MiB}", more="active: {pages: 100, period: 2s}"))
    active = Active(model.fleet, seed=1)
    active.look(used(0), model.pages, 1.0)
    assert active.estimate(model.pages) is None, "the first period is not over"
    active.look(used(0), model.pages, 1.0)
    found = [in_mib(active, model)]
    for part in (1, 0, 0, 0, 1):
        active.look(used(part), model.pages, 1.0)
        found.append(in_mib(active, model))
    assert found == pytest.approx([128 * part for part in (0, 0.7, 0.7, 0.7, 0.21, 0.763)])


def test_how_often_it_is_asked_for_does_not_change_the_estimate() -> None:
    """200 VMs of which a half is used little by little, 100 pages watched: asked at each step or at
    the end alone, the mean is ½ within four standard errors, 4·√(¼ ÷ 20,000) = 0.0141."""
    lab = small("{name: idle, size: 0MiB}", more="active: {pages: 100, period: 2s}")
    model = model_of(lab, vms=200)
    for asks in (True, False):
        active = Active(model.fleet, seed=1)
        active.look(used(0), model.pages, 2.0)
        last = np.zeros(200)
        for _ in range(20):
            active.look(used(0.025), model.pages, 0.09)
            if asks:
                found = active.estimate(model.pages)
                assert found is not None and (found >= last).all(), "within a period it rises"
                last = found
        found = active.estimate(model.pages)
        assert found is not None
        mean = found.mean() * PAGE / (128 * MIB) / 0.7
        assert mean == pytest.approx(0.5, abs=0.0141)


@pytest.mark.parametrize("name", POLICIES)
def test_the_policy_is_the_very_class_used_live(name: str) -> None:
    lab = under(lab_of("quickstart"), name)
    model = model_of(lab, vms=8, hosts=2)
    governors = Governors(model, lab)
    assert [type(policy) for policy in governors.policies] == [POLICIES[name]] * 2
    assert governors.policies[0] is not governors.policies[1]
    for _ in range(10):
        advance(model, 1)
        governors.decide()
    assert not governors.deeds.failed
    assert governors.deeds.states.total() == 20


def test_a_policy_that_fails_is_dismissed_as_it_is_live() -> None:
    class Bad(Static):
        def decide(self, _view: View) -> Decision:
            raise RuntimeError("nothing good")

    lab = lab_of("quickstart")
    governors = Governors(model_of(lab), lab)
    governors.policies[0] = Bad()
    governors.decide()
    assert "raised RuntimeError: nothing good" in governors.deeds.failed
    assert type(governors.policies[0]) is Static


def test_a_view_agrees_with_the_model() -> None:
    lab = under(lab_of("quickstart"), "static")
    model = model_of(lab, vms=8, hosts=2)
    governors = Governors(model, lab)
    advance(model, 14)
    first, second = views(model, governors.claims)
    assert [vm.name for vm in first.vms] == ["web-1", "web-2", "batch", "archive"]
    assert [vm.name for vm in second.vms] == ["web-1.1", "web-2.1", "batch.1", "archive.1"]
    assert first.budget == lab.host.memory
    for view in (first, second):
        for vm in view.vms:
            if vm.used is None or vm.cache is None or vm.free is None or vm.ballooned is None:
                pytest.fail("a VM that runs is known")
            reserved = vm.configured - vm.used - vm.cache - vm.free - vm.ballooned
            assert 0 <= reserved < 0.01 * vm.configured
    assert first.saved_sharing == pytest.approx(
        saved(model.pages, model.shared, model.fleet).sharing[0] * PAGE, abs=PAGE
    )


def test_a_vm_that_has_not_started_is_known_by_its_claims_alone() -> None:
    lab = lab_of("quickstart")
    model = model_of(lab)
    advance(model, 1)
    (view,) = views(model, Governors(model, lab).claims)
    archive = view.vms[-1]
    assert archive.name == "archive"
    assert archive.free is None
    assert archive.resident is None


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    lab = under(lab_of("contention-phases"), "esxi6")

    def work(seed: int) -> list[float]:
        where = places(lab, vms=8, hosts=2, seed=seed)
        found: list[float] = run(lab, where, seed=seed).work.tolist()
        return found

    assert work(3) == work(3)
    assert work(3) != work(4)


def test_a_host_of_a_fleet_is_over_committed_as_the_lab_is() -> None:
    lab = lab_of("quickstart")
    model = model_of(lab, vms=50, hosts=4)
    part = model.fleet.hosts.sum(model.fleet.configured) * PAGE / (model.budget * PAGE)
    assert part == pytest.approx([lab.overcommitment] * 4)
    counts = np.bincount(model.fleet.hosts.of)
    assert counts.tolist() == [13, 12, 13, 12]


def test_hosts_of_a_fleet_do_not_disturb_each_other() -> None:
    """What a host does is the same whoever stands beside it."""
    lab = under(lab_of("quickstart"), "best")
    alone = run(lab, places(lab, vms=None, hosts=1, seed=1)).work
    both = run(lab, places(lab, vms=8, hosts=2, seed=1)).work
    assert both[: len(alone)] == pytest.approx(alone)


def test_more_hosts_than_vms_is_refused() -> None:
    with pytest.raises(UsageError, match="4 VMs cannot stand on 9 hosts"):
        places(lab_of("quickstart"), vms=None, hosts=9, seed=1)


def test_an_unknown_policy_is_refused_before_anything_is_run() -> None:
    with pytest.raises(UsageError, match="no policy is called"):
        simulate_task(Task(lab_of("quickstart"), ("bset",)))


def test_zipf_is_cut_without_loss() -> None:
    (vm,) = small("{name: keyvalue, size: 96MiB, args: {zipf: 0.8}}").vms
    found = layered(vm)
    assert sum(found.sizes) == 96 * MIB / PAGE
    assert sum(found.parts) == pytest.approx(1)
    heat = [part / size for part, size in zip(found.parts, found.sizes, strict=True) if size]
    assert heat == sorted(heat, reverse=True)


def test_a_staircase_is_cut_at_its_levels() -> None:
    (vm,) = small(
        "{name: toucher, size: 64MiB, args: {levels: [64MiB, 16MiB, 32MiB], step: 2s}}"
    ).vms
    found = layered(vm)
    assert [end * PAGE // MIB for end in found.ends if np.isfinite(end)] == [16, 32, 64]
    assert sum(found.sizes) == 64 * MIB / PAGE


def test_groups_sum_and_spread_in_any_order() -> None:
    groups = Groups.by(np.array([1, 0, 1, 2]))
    values = np.array([[1.0, 2.0, 4.0, 8.0], [10.0, 20.0, 40.0, 80.0]])
    assert groups.sum(values).tolist() == [[2, 5, 8], [20, 50, 80]]
    assert groups.max(values).tolist() == [[2, 4, 8], [20, 40, 80]]
    assert groups.spread(groups.sum(values))[0].tolist() == [5, 2, 5, 8]
    assert groups.count == 3


def test_the_strata_are_image_application_and_freed() -> None:
    model = model_of(lab_of("quickstart"))
    assert model.pages.private.shape == (STRATA, 4)
    assert list(range(STRATA))[APP] == [1, 2, 3, 4, 5]
    assert FREED == STRATA - 1
