"""Whose pages go when the modelled host is full, where to, and what it costs to have them back."""

from __future__ import annotations

import numpy as np
import pytest

from memlab.control.policy import Mechanism
from memlab.lab.load import loads
from memlab.lab.spec import Lab
from memlab.simulate.arrays import APP, IMAGE
from memlab.simulate.fleet import fleet, places
from memlab.simulate.model import Model
from memlab.simulate.reclaim import zero_on_device, zero_part
from memlab.simulate.victims import Frames, Victims
from memlab.units import MIB, PAGE

STEP = 0.05


def lab_of(budget: str, vms: str, *, pool: str = "off") -> Lab:
    text = f"""
name: pressed
host: {{memory: {budget}, swap: {{size: 1GiB}}}}
policy: none
mechanisms: {{compression: {pool}, balloon: off, tps: off}}
defaults: {{memory: 96MiB, image: {{size: 8MiB}}}}
vms:
{vms}
duration: 10s
"""
    return loads(text).lab


def model_of(lab: Lab) -> Model:
    return Model(fleet(lab, places(lab, vms=None, hosts=1, seed=1)), seed=1)


def advance(model: Model, seconds: float, step: float = STEP) -> None:
    for _ in range(round(seconds / step)):
        model.step(step)


SLEEPER = "  sleeper:\n    workload: {name: idle, size: 64MiB}\n"
WORKER = "  worker:\n    start: 1s\n    workload: {name: keyvalue, size: 72MiB, args: {zipf: 0}}\n"


def test_who_sleeps_pays_more_than_its_size() -> None:
    """Of a hundred frames the sleeper gives more for each that it has than the worker; and two
    seconds later the worker has all that it uses."""
    model = model_of(lab_of("96MiB", SLEEPER + WORKER))
    advance(model, 2)
    assert model.flows is not None
    frames = Frames.of(model.pages, model.shared, model.flows.rates, model.fleet)
    given = Victims(model.fleet).shares(frames, np.array([100.0]), STEP)
    assert given.sum() == pytest.approx(100)
    of_sleeper, of_worker = given / frames.own
    assert of_sleeper > 1.2 * of_worker
    advance(model, 2)
    sleeper, worker = model.pages.private.sum(axis=0) * PAGE / MIB
    assert worker > 70
    assert sleeper < 24
    assert model.flows.major[1] / STEP < 100


def test_the_image_goes_before_all_that_was_filled_later() -> None:
    model = model_of(lab_of("56MiB", SLEEPER))
    advance(model, 5)
    pages = model.pages
    assert pages.private[IMAGE, 0] < 0.02 * pages.touched[IMAGE, 0]
    assert pages.private[APP, 0].sum() > 0.8 * pages.touched[APP, 0].sum()


def test_zero_pages_are_never_in_the_pool_and_cost_no_read() -> None:
    work = "size: 72MiB, content: {zero: 50%, compressible: 4}, args: {zipf: 0, writes: 0}"
    worker = f"  a:\n    workload: {{name: keyvalue, {work}}}\n"
    model = model_of(lab_of("40MiB", worker, pool="{pool: 50%}"))
    advance(model, 0.6)
    pages = model.pages
    part = zero_part(pages, model.fleet)[APP][0, 0]
    assert part == pytest.approx(0.5, abs=0.02)
    out = pages.out[APP].sum()
    assert pages.pooled[APP].sum() == pytest.approx(out / 2, rel=0.05)
    assert zero_on_device(pages, model.fleet).sum() == pytest.approx(
        pages.device[APP].sum(), rel=0.05
    )
    assert model.flows is not None
    assert model.flows.device.sum() > 0
    assert model.flows.read.sum() < 0.05 * model.flows.device.sum()


@pytest.mark.parametrize("oldest", [False, True])
def test_what_a_policy_pushes_out_stays_in_the_swap_cache(oldest: bool) -> None:
    """And comes back from there; the oldest do not, as those that the kernel takes do not."""
    model = model_of(lab_of("200MiB", WORKER.replace("start: 1s\n    ", "")))
    advance(model, 2)
    model.push_out(np.array([4096.0]), Mechanism.SWAP, oldest=oldest)
    cached = float(model.pages.cached.sum())
    assert cached == pytest.approx(0 if oldest else 4096)
    found = model.step(STEP)
    assert found.device.sum() > 1000
    assert found.read.sum() == pytest.approx(found.device.sum() if oldest else 0)
    assert model.used[0] <= model.budget[0]


def test_who_goes_through_its_pages_in_turn_meets_those_that_are_out() -> None:
    """All of its operations are faults until all is back; one at random seldom meets them."""
    part = {}
    for name, args in {"scan": "", "keyvalue": ", args: {zipf: 0}"}.items():
        application = f"  a:\n    workload: {{name: {name}, size: 72MiB{args}}}\n"
        model = model_of(lab_of("200MiB", application))
        advance(model, 2)
        model.push_out(np.array([8192.0]), Mechanism.SWAP, oldest=True)
        found = model.step(0.02)
        part[name] = float(found.major[0] / found.operations[0])
    assert part["scan"] == pytest.approx(1, abs=0.02)
    assert part["keyvalue"] < 0.6


def test_a_guest_out_of_memory_waits_and_does_nothing() -> None:
    """Its staircase wants more than its balloon has left it."""
    args = "args: {levels: [16MiB, 72MiB], step: 2s, period: 100ms}"
    stairs = f"  a:\n    workload: {{name: toucher, size: 72MiB, {args}}}\n"
    model = model_of(lab_of("200MiB", stairs))
    advance(model, 1.5)
    model.balloons.target[:] = 60 * MIB / PAGE
    advance(model, 2)
    assert model.flows is not None
    assert model.flows.operations[0] == 0
    model.balloons.target[:] = 0
    advance(model, 0.4)
    assert model.flows is not None
    assert model.flows.operations[0] > 0
