"""A policy of the user's own: found, checked without running it, loaded, set, and asked again."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.control import userpolicy
from memlab.control.policies import build, settings_of
from memlab.control.policy import Balloon
from memlab.control.replay import replay
from memlab.control.view import from_json, to_json
from memlab.errors import LabFileError, UsageError
from memlab.lab.load import load
from memlab.record.series import Tick
from memlab.record.store import Recording
from memlab.units import MIB
from tests.unit.policy_views import view, vm

DOCS = (Path(__file__).parents[2] / "docs/policies.md").read_text("utf-8")
EXAMPLE = DOCS.split("<!-- example -->\n```python\n")[1].split("```")[0]
LAB = """
name: own
host: {memory: 64MiB}
mechanisms: {compression: off, swap: off}
policy: {name: "./mine.py:Polite", settings: {keep: 20%}}
vms: {a: {memory: 32MiB}}
duration: 5s
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(EXAMPLE, "utf-8")
    return tmp_path


def test_the_documented_example_is_short_and_works(folder: Path) -> None:
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 35
    policy = build("./mine.py:Polite", {"keep": "20%"}, folder=folder)
    assert policy.settings.keep == 0.2
    decision = policy.decide(view(0.1, vm("rich", free=100), vm("poor", free=10)))
    (action,) = decision.actions
    assert isinstance(action, Balloon) and (action.vm, action.target) == ("rich", 60 * MIB)
    assert [left.vm for left in decision.left_alone if left.vm] == ["poor"]


def test_its_settings_are_known_by_name(folder: Path) -> None:
    assert list(settings_of("./mine.py:Polite", folder)) == ["keep"]
    with pytest.raises(UsageError, match="no setting 'kep'"):
        build("./mine.py:Polite", {"kep": "20%"}, folder=folder)


def test_a_class_without_settings_will_do(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(
        "from memlab.control.policy import Decision\n"
        "class Tiny:\n    def decide(self, view):\n        return Decision('tiny')\n"
    )
    policy = build("tiny.py:Tiny", {}, folder=tmp_path)
    assert policy.name == "Tiny"
    assert policy.decide(view(0.5)).state == "tiny"


@pytest.mark.parametrize(
    ("text", "word", "says", "fix"),
    [
        (None, "Mine", "cannot be read", "lab file's folder"),
        ("class Mine:\n  def decide(self", "Mine", "is not Python", "mend line"),
        ("class Other:\n  def decide(self, v): ...", "Mine", "no class 'Mine'", "it has: Other"),
        ("class Mine: pass", "Mine", "no method decide", "def decide(self, view)"),
    ],
)
def test_what_is_wrong_is_found_without_running_it(
    tmp_path: Path, text: str | None, word: str, says: str, fix: str
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text("raise SystemExit('it was run')\n" * 0 + text)
    found = userpolicy.fault(f"./mine.py:{word}", tmp_path)
    assert found is not None
    assert says in found[0]
    assert fix in found[1]


def test_a_file_that_raises_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0\nclass Bad:\n  def decide(self, view): ...\n")
    assert userpolicy.fault("bad.py:Bad", tmp_path) is None
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        build("bad.py:Bad", {}, folder=tmp_path)


def test_validate_looks_from_the_lab_file_s_folder(folder: Path) -> None:
    path = folder / "own.memlab.yaml"
    path.write_text(LAB)
    assert load(path).lab.policy.name == "./mine.py:Polite"
    path.write_text(LAB.replace("Polite", "Rude"))
    with pytest.raises(LabFileError) as caught:
        load(path)
    (fault,) = caught.value.faults
    assert (fault.code, fault.line) == ("ML037", 5)
    assert "no class 'Rude'" in fault.message


def test_a_view_survives_its_recording() -> None:
    seen = view(0.25, vm("a", used=10, ghost=3, stall_some=0.5), vm("b", blocked=True))
    assert from_json(to_json(seen)) == seen
    assert from_json('{"time":1,"budget":2,"used":1,"news":3,"vms":[]}').budget == 2


def test_a_recorded_run_is_asked_again(folder: Path) -> None:
    path = folder / "recording.sqlite"
    seen = [view(0.5), view(0.1, vm("rich", free=100))]
    with Recording.create(path, {"vms": [], "window": [0, 1]}) as recording:
        for number, one in enumerate(seen):
            recording.tick(Tick(float(number), "none", "none", 0.0, to_json(one)))
        recording.finish({})
    policy = build("./mine.py:Polite", {}, folder=folder)
    found = list(replay(policy, path))
    assert [one for one, _ in found] == seen
    assert [len(decision.actions) for _, decision in found] == [0, 1]
