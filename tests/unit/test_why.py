"""A decision told in sentences: what was seen, done, got, and left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from memlab.cli.why import command
from memlab.control.view import to_json
from memlab.errors import UsageError
from memlab.record.derive import Derived
from memlab.record.sample import VmInfo
from memlab.record.series import Choice, Tick
from memlab.record.store import Recording
from memlab.report import why
from tests.unit.policy_views import view, vm


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "recording.sqlite"
    with Recording.create(path, {"vms": [{"name": "a"}, {"name": "b"}], "window": [0, 9]}) as made:
        for owner, name in enumerate("ab", start=1):
            made.add_vm(VmInfo(name, owner, "process", 200 << 20))
        quiet = view(0.5, vm("a"), vm("b"))
        short = view(0.05, vm("a", used=80, stall_some=0.25), vm("b"), sharing_on=True)
        made.tick(Tick(1.0, "esxi6", "high", 0.0002, to_json(quiet)))
        made.choice(Choice(1.0, "esxi6", "high", "left-alone", "balloon", "a", "enough is free"))
        made.tick(Tick(2.0, "esxi6", "soft", 0.0003, to_json(short)))
        made.choice(
            Choice(2.0, "esxi6", "soft", "balloon", "balloon", "a", "it is idle",
                   "balloon 64.0 MiB", "taken up by the driver", 0.002)
        )  # fmt: skip
        made.choice(Choice(2.0, "esxi6", "soft", "left-alone", "swap", "b", "others give enough"))
        made.finish({})
    return path


def test_a_moment_is_told_in_sentences(run: Path) -> None:
    with Derived.open(run, check=False) as source:
        text = "\n".join(why.tell(why.at(why.moments(source), 2.5)))
    assert "At 2.0 s the policy esxi6 was in the state soft; it decided in 300.0 µs." in text
    assert "20.0 MiB of the budget of 400.0 MiB to be had (5%)" in text
    assert "a of 200.0 MiB: used 80.0 MiB, free 50.0 MiB" in text
    assert "waited for memory 25.0% of the time" in text
    assert (
        "It asked for balloon 64.0 MiB for a, because it is idle. "
        "It got: taken up by the driver in 2.0 ms."
    ) in text
    assert "It left swap of b alone: others give enough." in text


def test_one_vm_alone_and_a_tick_without_action(run: Path) -> None:
    with Derived.open(run, check=False) as source:
        found = why.moments(source)
    text = "\n".join(why.tell(why.at(found, 2.0), "b"))
    assert "It did not act." in text and "others give enough" in text
    assert "it is idle" not in text
    assert "It did not act." in "\n".join(why.tell(why.at(found, 1.9)))


def test_before_the_first_tick_and_without_any(run: Path) -> None:
    with Derived.open(run, check=False) as source, pytest.raises(UsageError) as caught:
        why.at(why.moments(source), 0.5)
    assert "first tick is at 1.0 s" in caught.value.hint
    with pytest.raises(UsageError, match="no policy has decided anything"):
        why.at([], 1.0)


def test_the_command(run: Path) -> None:
    ask = CliRunner().invoke
    glance = ask(command, [str(run)]).stdout.splitlines()
    assert glance == [
        "    1.0 s  esxi6 high: 1 ticks, did not act",
        "    2.0 s  esxi6 soft: 1 ticks, balloon 1×",
    ]
    said = json.loads(ask(command, [str(run), "--at", "2s", "-f", "json"]).stdout)
    assert said["schema_version"] == 1
    said = said["moment"]
    assert said["state"] == "soft" and said["view"]["vms"][0]["name"] == "a"
    assert "asked" in said["choices"][0] and "asked" not in said["choices"][1]
    assert (
        "no VM of this run is called 'z'; it has: a, b"
        in ask(command, [str(run), "--vm", "z"]).stderr
    )
    assert isinstance(ask(command, [str(run), "--at", "2"]).exception, UsageError)


def test_agings_of_an_older_recording_are_no_swaps(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with Recording.create(path, {"vms": [{"name": "a"}], "window": [0, 9]}) as made:
        for action, mechanism in (("age", "swap"), ("age", "age"), ("reclaim", "swap")):
            made.choice(Choice(1.0, "best", "makes room", action, mechanism, "a", "why", "x", "y"))
        made.finish({})
    with Derived.open(path, check=False) as source:
        (line,) = why.overview(why.moments(source))
    assert line == "    1.0 s  best makes room: 1 ticks, age 2×, swap 1×"


def test_a_recording_without_ticks_is_told_from_its_choices(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with Recording.create(path, {"vms": [], "window": [0, 9]}) as made:
        made.choice(Choice(3.0, "ladder", "swap", "left-alone", "swap", "", "nothing is missing"))
        made.connection.execute("DROP TABLE tick")
        made.finish({})
    with Derived.open(path, check=False) as source:
        (moment,) = why.moments(source)
    assert moment.view is None
    assert next(iter(why.tell(moment))) == "At 3.0 s the policy ladder was in the state swap."
