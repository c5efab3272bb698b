"""The table of policies: settings as they are written, refused, changed at work, documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.control.policies import POLICIES, build, retune, settings_of
from memlab.control.settings import Scales
from memlab.errors import UsageError
from memlab.units import MIB
from tests.unit.policy_views import view

DOCS = (Path(__file__).parents[2] / "docs/policies.md").read_text()


def test_settings_are_written_as_they_are_documented() -> None:
    settings = build("mom", {"interval": "2s", "change": "7%", "boost": 10}).settings
    assert (settings.interval, settings.change, settings.boost) == (2.0, 0.07, 10.0)
    assert build("proxmox", {"step": "8MiB"}).settings.step == 8 * MIB
    assert build("esxi5", {"progressive": "on"}).settings.progressive is True


@pytest.mark.parametrize(
    ("name", "settings", "words", "fix"),
    [
        ("mmo", {}, "no policy is called 'mmo'", "mom"),
        ("mom", {"intervall": "2s"}, "no setting 'intervall'", "interval"),
        ("mom", {"interval": 2}, "'2' is not a duration", "write 2s"),
        ("mom", {"change": 0.05}, "is not a percentage", "write 5%"),
        ("mom", {"change": "105%"}, "is not a percentage", "0% to 100%"),
        ("mom", {"boost": -1}, "not a number of 0 or more", "write a number"),
        ("mom", {"boost": True}, "is not a number", "such as 10"),
        ("proxmox", {"step": 100}, "has no unit", "100MiB"),
        ("esxi5", {"progressive": "maybe"}, "not a switch", "on or off"),
        ("none", {"x": 1}, "no setting 'x'", "none"),
    ],
)
def test_what_is_refused(name: str, settings: dict[str, object], words: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(name, settings)
    assert words in caught.value.message
    assert fix in caught.value.hint


def test_the_lab_s_balloon_limit_holds_where_no_other_is_written() -> None:
    assert build("squeezed", {}, maximum=0.5).settings.maximum == 0.5
    assert build("squeezed", {"maximum": "40%"}, maximum=0.5).settings.maximum == 0.4
    build("senpai", {}, maximum=0.5)


def test_a_setting_changes_and_the_state_stays() -> None:
    policy = build("esxi6", {}, Scales(time=3))
    assert policy.decide(view(0.001)).state == "low"
    retune(policy, "idle_tax", 0.1)
    assert policy.settings.idle_tax == 0.1
    assert policy.decide(view(0.0105)).state == "low", "its hysteresis remembers"
    assert policy.scales.time == 3


@pytest.mark.parametrize("name", POLICIES)
def test_the_documentation_has_each_setting_with_its_default_and_meaning(name: str) -> None:
    assert f"`{name}`" in DOCS
    for one in settings_of(name).values():
        assert f"| `{one.name}` | {one.show(one.default)} | {one.meaning} |" in DOCS
