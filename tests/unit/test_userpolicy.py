"""A policy of the user's own: found, checked without running it, loaded, set, and asked again."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.control import userpolicy
from memlab.control.guarded import PolicyError, decide
from memlab.control.policies import build, retune, settings_of
from memlab.control.policy import Balloon
from memlab.control.replay import replay
from memlab.control.view import from_json, to_json
from memlab.errors import LabFileError, UsageError
from memlab.lab.load import load
from memlab.lab.prepare import prepare
from memlab.record.series import Tick
from memlab.record.store import Recording
from memlab.units import MIB
from tests.unit.fake_host import FakeHost
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


HEAD = """from dataclasses import dataclass
from memlab.control.policy import Decision
from memlab.control.settings import percent
"""
KEEPS = "  def __init__(self, s): self.settings = s\n"
DECIDES = "  def decide(self, v): ..."
BARE = "@dataclass\nclass S:\n  keep: float = 0.1\n"
CHECKS = """@dataclass(frozen=True)
class S:
  keep: float = percent(0.1, 'x')
  def __post_init__(self):
    if self.keep > 0.5: raise ValueError('too much')
"""


@pytest.mark.parametrize(
    ("text", "settings", "says", "fix"),
    [
        ("import sys\nsys.exit(3)\nclass Mine:\n" + DECIDES, {}, "raised SystemExit: 3 (*, line 5)",
         "mend mine.py"),
        ("class Mine:\n  def __init__(self):\n    int('x')\n" + DECIDES, {},
         "raised ValueError: invalid literal for int() with base 10: 'x' (*, line 6)",
         "mend mine.py"),
        ("class Mine:\n  def __init__(self, a, b): ...\n" + DECIDES, {}, "raised TypeError: ",
         "mend mine.py"),
        ("class Mine:\n  __slots__ = ()\n" + DECIDES, {}, "raised AttributeError: ",
         "mend mine.py"),
        ("class Mine:\n  settings_type = 7\n" + DECIDES, {},
         "the settings_type of policy Mine, 7, is not a dataclass", "write @dataclass"),
        (BARE + "class Mine:\n  settings_type = S\n" + KEEPS + DECIDES, {},
         "setting 'keep' of policy Mine does not say how it is written", "make it with percent"),
        (CHECKS + "class Mine:\n  settings_type = S\n" + KEEPS + DECIDES, {"keep": "60%"},
         "raised ValueError: too much (*, line 8)", "mend mine.py"),
        ("class Mine:\n  def __init__(self): self.settings = {}\n" + DECIDES, {},
         "the settings of policy Mine are of type dict", "let its __init__ keep the NoSettings"),
        ("class Base: ...\nclass Mine(Base): ...", {}, "policy Mine has no method decide",
         "add: def decide(self, view)"),
    ],
)  # fmt: skip
def test_a_class_that_cannot_be_made_is_one_sentence_with_its_place(
    tmp_path: Path, text: str, settings: dict[str, object], says: str, fix: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(HEAD + text)
    with pytest.raises(UsageError) as caught:
        build("mine.py:Mine", settings, folder=tmp_path)
    assert says.replace("*", str(path)) in caught.value.message
    assert fix in caught.value.hint
    if "raised" in says:
        assert caught.value.message.startswith(f"policy Mine in {path} raised")
        assert "control/policies.py" not in caught.value.message


def test_ctrl_c_while_it_is_made_is_the_user_s(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Mine:\n  def __init__(self): raise KeyboardInterrupt\n" + DECIDES
    )
    with pytest.raises(KeyboardInterrupt):
        build("mine.py:Mine", {}, folder=tmp_path)


def test_a_name_that_is_no_text_gives_way_to_the_class_s(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        f"class Mine:\n  name = 7\n{DECIDES}\n"
        f"class Yours:\n  def __init__(self): self.name = []\n{DECIDES}"
    )
    assert build("mine.py:Mine", {}, folder=tmp_path).name == "Mine"
    assert build("mine.py:Yours", {}, folder=tmp_path).name == "Yours"


def test_settings_that_check_themselves_refuse_a_change_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        HEAD + CHECKS + "class Mine:\n  settings_type = S\n" + KEEPS + DECIDES
    )
    policy = build("mine.py:Mine", {}, folder=tmp_path)
    retune(policy, "keep", 0.4)
    assert policy.settings.keep == 0.4
    with pytest.raises(UsageError, match=r"Mine does not take keep = 0\.9: it raised ValueError"):
        retune(policy, "keep", 0.9)
    assert policy.settings.keep == 0.4


def test_the_place_is_in_the_policy_s_own_file(tmp_path: Path) -> None:
    """An error deep in a library does not help whoever wrote the policy."""
    (tmp_path / "mine.py").write_text(
        "import statistics\nclass Mine:\n  def decide(self, v):\n    return statistics.mean([])\n"
    )
    policy = build("mine.py:Mine", {}, folder=tmp_path)
    with pytest.raises(PolicyError, match=r"mine\.py, line 4\)"):
        decide(policy, view(0.5))


def test_the_digest_is_of_the_file_s_bytes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert userpolicy.digest("mine.py:Mine", tmp_path) == known
    assert userpolicy.digest("ladder", tmp_path) == ""
    with pytest.raises(UsageError, match="cannot be read"):
        userpolicy.digest("gone.py:Mine", tmp_path)


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


def test_a_policy_that_cannot_be_made_is_refused_before_anything_is_changed(
    tmp_path: Path,
) -> None:
    host = FakeHost.make(tmp_path / "host")
    (tmp_path / "mine.py").write_text(
        "class Mine:\n"
        "    name = 'mine'\n"
        "    def __init__(self, settings=None):\n"
        "        raise RuntimeError('no model')\n"
        "    def decide(self, view): ...\n"
    )
    lab = tmp_path / "lab.memlab.yaml"
    lab.write_text(
        LAB.replace('{name: "./mine.py:Polite", settings: {keep: 20%}}', "./mine.py:Mine")
    )
    before = host.tree()
    with pytest.raises(UsageError, match=r"Mine in .* raised RuntimeError: no model .*line 4"):
        prepare(load(lab), roots=host.roots)
    assert host.tree() == before
