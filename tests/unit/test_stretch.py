"""A lab in slow motion."""

from __future__ import annotations

from memlab.lab.load import loads
from memlab.lab.settable import parse_setting
from memlab.lab.stretch import stretch
from memlab.lab.vmspec import WorkloadSpec
from memlab.units import MIB

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


def test_a_workload_that_a_step_starts_is_as_slow() -> None:
    step = """{at: 5s, set: {vms.web.limit: 32MiB, vms.batch.workload: idle, vms.web.workload:
      {name: burst, size: 16MiB, content: {compressible: 2}, args: {hold: 3s}}}}"""
    lab = stretch(loads(TEXT.replace("timeline: [", f"timeline: [{step}, ")), 2).lab
    changes = lab.timeline[0].set
    web, batch = (
        parse_setting(f"vms.{vm}.workload", changes[f"vms.{vm}.workload"], lab).value
        for vm in ("web", "batch")
    )
    assert isinstance(web, WorkloadSpec) and isinstance(batch, WorkloadSpec)
    assert (web.arguments["hold"], web.arguments["pause"]) == (6, 16)
    assert web.size == 16 * MIB and web.content is not None and web.content.compressible == 2
    assert changes["vms.web.limit"] == "32MiB" and batch.name == "idle"


def test_sizes_expectations_and_the_file_itself_stay() -> None:
    before = loads(TEXT)
    found = stretch(before, 3)
    assert found.source == before.source and found.tree == before.tree
    assert found.lab.host == before.lab.host
    assert [vm.memory for vm in found.lab.vms] == [vm.memory for vm in before.lab.vms]
    assert found.lab.expect[0].that == before.lab.expect[0].that
