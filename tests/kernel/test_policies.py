"""Policies on the live kernel: what each state of an esx release does, and a policy that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.control.esx_profiles import ESX15, ESX41, ESXI5, ESXI6, Act, Profile, State
from memlab.lab.load import load
from memlab.lab.outcome import RunOutcome
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.record.series import Series
from memlab.report.why import Moment, moments
from tests.pace import slowness

pytestmark = pytest.mark.kernel

LAB = """
name: states
host: {{memory: 168MiB, swap: {{size: 512MiB}}}}
mechanisms:
  tps: {{pages_to_scan: 2000}}
  compression: {{pool: 15%}}
policy: {{name: {policy}, period: 500ms}}
defaults:
  memory: 96MiB
  image: {{name: debian, size: 24MiB, common: 60%, zero: 10%, compressible: 3}}
  content: {{compressible: 3}}
vms:
  busy:
    workload: {{name: keyvalue, size: 56MiB, args: {{rate: 5000}}}}
  idle:
    start: 2s
    workload: {{name: idle, size: 40MiB}}
  late:
    start: 4s
    workload: {{name: idle, size: 60MiB}}
  last:
    start: 6s
    workload: {{name: leak, size: 64MiB, args: {{rate: 6MiB}}}}
duration: 16s
sample: {{fast: 200ms, medium: 500ms, deep: 1s}}
"""
PROFILES = {"esx15": ESX15, "esx41": ESX41, "esxi5": ESXI5, "esxi6": ESXI6}


@pytest.fixture(autouse=True)
def _runs_go_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLAB_DIR", str(tmp_path))


def run(folder: Path, text: str) -> RunOutcome:
    path = folder / "states.memlab.yaml"
    path.write_text(text)
    outcome = Session(prepare(load(path)), Nobody()).run()
    outcome.restored.check()
    return outcome


def told(outcome: RunOutcome) -> list[Moment]:
    with Derived.open(outcome.recording) as source:
        assert not [event for event in source.events() if event.kind == "oom-kill"]
        return moments(source)


def may(profile: Profile, state: State) -> set[str]:
    """The mechanisms that a state may use; giving back (deflating, thawing) is free in any."""
    acts = profile.acts[state]
    found = {"sharing"} if acts & {Act.SHARE, Act.SHARE_NOW} else set()
    if profile.share_below is None and state is not State.HIGH:
        found.add("sharing")  # large pages are broken up
    if profile.share_below is not None and state is State.HIGH:
        found.add("sharing")
    for act, mechanism in {Act.BALLOON: "balloon", Act.COMPRESS: "compression",
                           Act.SWAP: "swap", Act.PAGE_WITHOUT_BALLOON: "swap",
                           Act.BLOCK: "block"}.items():  # fmt: skip
        if act in acts:
            found.add(mechanism)
    return found


def is_giving_back(choice_reason: str) -> bool:
    words = ("gives back", "no more above its target", "back at the lab's pace")
    return any(word in choice_reason for word in words)


@pytest.mark.parametrize("policy", PROFILES)
def test_each_release_acts_in_exactly_its_states(policy: str, tmp_path: Path) -> None:
    found = told(run(tmp_path, LAB.format(policy=policy)))
    profile, seen = PROFILES[policy], dict[State, set[str]]()
    for moment in found:
        state = State[moment.state.upper()]
        taking = {one.mechanism for one in moment.actions if not is_giving_back(one.reason)}
        assert taking <= may(profile, state), moment
        seen.setdefault(state, set()).update(taking)
        low, high = _edges(profile, state)
        part = _part_of_min_free(moment, profile)
        assert low <= part < high, (moment.state, part)
    short = set(seen) - {State.HIGH, State.CLEAR}
    assert State.HIGH in seen and len(short) >= 2, sorted(seen)
    for state in short:
        assert seen[state] or state is State.LOW, f"nothing was done in {state.name}"
    assert set().union(*seen.values()) >= {"sharing"}


def _edges(profile: Profile, state: State) -> tuple[float, float]:
    """Parts of minFree between which a state can stand, its hysteresis included."""
    lower = [edge for other, edge in profile.enter.items() if other > state]
    if state is State.HIGH:
        return max(lower), float("inf")
    # Left one state at a time: right after a jump up the state lags behind what is free.
    return (max(lower) if lower else float("-inf")), float("inf")


def _part_of_min_free(moment: Moment, profile: Profile) -> float:
    assert moment.view is not None
    return moment.view.available / ((profile.min_free or 0.06) * moment.view.budget)


RUDE = """
class Rude:
    asked = 0
    def decide(self, view):
        self.asked += 1
        if self.asked <= 4:
            from memlab.control.policy import Decision
            return Decision("waits")
        {does}
"""


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("raise KeyError('lost')", "raised KeyError"),
        ("while True: pass", "had not decided after 1 s"),
        ("return 7", "not a Decision"),
    ],
)
def test_the_lab_goes_on_without_a_policy_that_fails(does: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "rude.py").write_text(RUDE.format(does=does))
    seconds = 8 if slowness() == 1 else 20
    two_vms = LAB.format(policy='"rude.py:Rude"').partition("  late:")[0]
    text = f"{two_vms}duration: {seconds}s\nsample: {{fast: 200ms, medium: 500ms, deep: 1s}}\n"
    outcome = run(tmp_path, text)
    with Derived.open(outcome.recording) as source:
        (failed,) = [event for event in source.events() if event.kind == "policy-failed"]
        assert words in failed.data["why"]
        assert failed.data["now"] == "static"
        found = moments(source)
    assert found[0].policy == "Rude"
    assert found[-1].policy == "static" and found[-1].time > failed.time + 2


AGED = """
name: aged
host: {{memory: 112MiB, swap: {{size: 256MiB}}}}
mechanisms: {{tps: off, compression: {{pool: 15%}}}}
policy: {{name: "old.py:Old", period: 250ms}}
defaults: {{memory: 64MiB}}
vms:
  a: {{workload: {{name: toucher, size: 48MiB, args: {quiet}}}}}
  b: {{workload: {{name: toucher, size: 48MiB, args: {quiet}}}}}
  late:
    start: 5s
    workload: {{name: idle, size: 44MiB}}
duration: 7200ms
sample: {{fast: 200ms, medium: 500ms, deep: 500ms}}
"""
QUIET = "{levels: [48MiB, 1MiB], step: 4s, period: 150ms}"
OLD = """
from memlab.control.policy import Age, Decision
class Old:
    name = "old"
    def decide(self, view):
        if 4.2 <= view.time < 5:
            return Decision("ages", (Age("{vm}", "a test asks for it"),))
        return Decision("waits")
"""


def gone(folder: Path, aged: str) -> dict[str, float]:
    """What of two equal VMs that have just gone quiet is out after a third one wanted memory."""
    (folder / "old.py").write_text(OLD.format(vm=aged))
    outcome = run(folder, AGED.format(quiet=QUIET))
    with Derived.open(outcome.recording) as source:
        assert not [event for event in source.events() if event.kind == "oom-kill"]
        done = [choice for choice in source.choices() if choice.action == "age"]
        assert done and all("64.0 MiB taken for old" in str(choice.got) for choice in done)
        # Not the newest: the verification at the end fetches all back.
        return {vm: at(source.series(Entity.VM, "out", vm), 6.8) for vm in "ab"}


def at(series: Series, time: float) -> float:
    """The value of the second before `time`."""
    pairs = zip(series.times, series.values, strict=True)
    return max(value or 0.0 for when, value in pairs if time - 1 <= when <= time)


def test_what_was_made_old_goes_first(tmp_path: Path) -> None:
    """Seen, MiB of both: 30 and 14 without aging; 37 and 11 if a was made old, 23 and 25 if b."""
    of_a, of_b = gone(tmp_path, "a"), gone(tmp_path, "b")
    assert of_a["a"] > 1.25 * of_b["a"] and of_b["b"] > 1.5 * of_a["b"], (of_a, of_b)
