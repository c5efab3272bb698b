"""A lab in slow motion."""

from __future__ import annotations

from memlab.lab.load import loads
from memlab.lab.stretch import stretch

TEXT = """\
name: slow
host: {memory: 256MiB, swap: {size: 256MiB}}
defaults: {memory: 64MiB}
vms:
  web: {start: 2s, workload: {name: keyvalue, size: 32MiB, args: {rate: 1000}}}
  batch: {workload: {name: burst, size: 32MiB, args: {hold: 3s}}}
duration: 30s
window: {from: 10s, until: 30s}
timeline: [{at: 4s, mark: there}, {when: "lab.swapped > 0B", once: off, cooldown: 6s, mark: m}]
expect: [{name: e, that: "1 < 2", within: 8s}]
"""


def test_every_time_is_multiplied_and_rates_go_down() -> None:
    before = loads(TEXT)
    found = stretch(before, 2)
    lab = found.lab
    assert found.time_scale == 2 and before.time_scale == 1
    assert (lab.duration, lab.measured) == (60, (20, 60))
    assert (lab.timeline[0].at, lab.timeline[1].at, lab.timeline[1].cooldown) == (8, None, 12)
    assert (lab.expect[0].within, lab.sample.fast, lab.policy.period) == (16, 0.5, 2)
    web, batch = lab.vms
    assert (web.start, batch.start) == (4, 0)
    rate = web.workload.arguments["rate"]
    assert isinstance(rate, float) and rate < 1000
    assert batch.workload.arguments["hold"] == 6
    assert batch.workload.arguments["pause"] == 16, "defaults too"


def test_sizes_expectations_and_the_file_itself_stay() -> None:
    before = loads(TEXT)
    found = stretch(before, 3)
    assert found.source == before.source and found.tree == before.tree
    assert found.lab.host == before.lab.host
    assert [vm.memory for vm in found.lab.vms] == [vm.memory for vm in before.lab.vms]
    assert found.lab.expect[0].that == before.lab.expect[0].that
