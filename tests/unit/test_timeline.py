from __future__ import annotations

import pytest

from memlab.lab.spec import Step
from memlab.lab.timeline import Timeline
from memlab.record.condition import ConditionError
from memlab.record.series import Event
from memlab.units import MIB
from tests.unit.condition_source import WrittenRun


def step(**fields: object) -> Step:
    return Step.model_validate({"mark": "x", **fields})


def taken(timeline: Timeline, now: float, free: float | None = None) -> list[int]:
    run = WrittenRun({"lab.free": {now: free}})
    return [due.index for due in timeline.due(now, run.latest)]


def test_by_the_clock_each_once_and_in_the_order_of_time() -> None:
    timeline = Timeline([step(at="5s"), step(at="2s"), step(at="0s"), step(at="60s")], vms=())
    assert taken(timeline, 0.0) == [2]
    assert taken(timeline, 1.9) == []
    assert taken(timeline, 7.0) == [1, 0]
    assert taken(timeline, 8.0) == []
    assert [waiting.at for waiting in timeline.waiting] == [60]


def test_a_condition_is_taken_once() -> None:
    timeline = Timeline([step(when="lab.free < 8MiB")], vms=())
    assert taken(timeline, 1.0, 9 * MIB) == []
    assert taken(timeline, 2.0, 7 * MIB) == [0]
    assert taken(timeline, 3.0, 7 * MIB) == []
    assert timeline.waiting == ()


def test_a_condition_that_may_come_again_waits_its_cooldown() -> None:
    timeline = Timeline([step(when="lab.free < 8MiB", once="off", cooldown="3s")], vms=())
    times = [now for now in range(10) if taken(timeline, float(now), 7 * MIB)]
    assert times == [0, 3, 6, 9]
    assert taken(timeline, 20.0, 9 * MIB) == []


def test_an_absent_value_takes_no_step() -> None:
    timeline = Timeline([step(when="lab.free < 8MiB"), step(when="not lab.free < 8MiB")], vms=())
    assert taken(timeline, 1.0, None) == []


def test_a_step_says_why_it_is_due() -> None:
    timeline = Timeline([step(at="2s"), step(when='events("oom-kill") > 0')], vms=())
    event = Event(1.0, "oom-kill", "web-1", {})
    due = timeline.due(2.5, WrittenRun().latest, events=(event,))
    assert due[0].why == "at 2 s"
    assert due[1].why == 'events("oom-kill") was 1 at 1.0 s, expected > 0'


def test_a_condition_that_cannot_be_read_is_refused_at_once() -> None:
    with pytest.raises(ConditionError, match="no VM is called"):
        Timeline([step(when="web-9.free < 8MiB")], vms=("web-1",))
