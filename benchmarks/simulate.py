"""How fast the memory model is: python -m benchmarks.simulate [VMS [HOSTS [STEPS]]]

VM-ticks in a millisecond of CPU time: of the model alone, and with each policy deciding once a
second (every twentieth step), what it is shown included. A VM-tick is one VM for one step of 50 ms.
The CPU time of one process, so of one core; the fleet is the quickstart's mix.
"""

from __future__ import annotations

import sys
import time

from memlab.lab.load import load, resolve
from memlab.lab.spec import Lab
from memlab.simulate.fleet import fleet, places
from memlab.simulate.fleets import under
from memlab.simulate.governors import Governors
from memlab.simulate.model import Model

STEP = 0.05
WARM = 100
"""Steps before the clock runs: the VMs fill their memory meanwhile."""
POLICIES = ("static", "ladder", "best", "esxi6", "mom")
TARGET = 1000


def started(lab: Lab, vms: int, hosts: int) -> Model:
    """A fleet that has been running for a while, sharing on."""
    model = Model(fleet(lab, places(lab, vms=vms, hosts=hosts, seed=1)), seed=1)
    model.ksmd.on[:] = 1
    for _ in range(WARM):
        model.step(STEP)
    return model


def alone(model: Model, steps: int) -> float:
    """CPU seconds of so many steps."""
    began = time.process_time()
    for _ in range(steps):
        model.step(STEP)
    return time.process_time() - began


def governed(model: Model, governors: Governors, steps: int) -> float:
    """The same with decisions."""
    began = time.process_time()
    for number in range(1, steps + 1):
        model.step(STEP)
        if number % 20 == 0:
            governors.decide()
    return time.process_time() - began


def main(vms: int = 10_000, hosts: int = 200, steps: int = 200) -> None:
    """Print one line for the model, and one for each policy."""
    lab = load(resolve("quickstart")).lab
    print(f"{vms:,} VMs on {hosts:,} hosts, {steps} steps of {STEP * 1e3:g} ms")
    model = started(lab, vms, hosts)
    took = min(alone(model, steps // 4) for _ in range(4)) * 4
    ticks = vms * steps / took / 1e3
    verdict = "" if ticks >= TARGET else f", LESS THAN {TARGET:,}"
    print(f"model alone        {ticks:7,.0f} VM-ticks/ms{verdict}")
    for policy in POLICIES:
        ruled = under(lab, policy)
        model = started(ruled, vms, hosts)
        governors = Governors(model, ruled)
        took = governed(model, governors, steps)
        each = governors.deeds.seconds / (steps // 20) / hosts
        print(
            f"model and {policy:8} {vms * steps / took / 1e3:7,.0f} VM-ticks/ms; a decision with "
            f"its view {each * 1e3:.2f} ms a host"
        )


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
