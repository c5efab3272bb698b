"""Policies on the live kernel: what each state of an esx release does, and a policy that fails."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from memlab.control.entitlement import Client, targets
from memlab.control.policy import View, VmView
from memlab.lab.load import load
from memlab.lab.outcome import RunOutcome
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.lab.stretch import stretch
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.record.series import Series
from memlab.report.why import Moment, moments
from memlab.units import MIB
from tests.pace import slow_motion, slowness

pytestmark = pytest.mark.kernel

STATES = """
name: states
host: {{memory: 172MiB, swap: {{size: 512MiB}}}}
mechanisms:
  tps: {{pages_to_scan: 500}}
  balloon: {{maximum: 10%}}
  compression: {{pool: 6%}}
policy: {{name: {policy}, period: 250ms, settings: {{step: 0.5%}}}}
defaults:
  memory: 96MiB
  image: {{name: debian, size: 24MiB, common: 60%, zero: 10%, compressible: 3}}
  content: {{compressible: 3}}
vms:
  busy:
    workload: {{name: keyvalue, size: 28MiB, args: {{rate: 5000}}}}
  idle:
    workload: {{name: idle, size: 24MiB}}
  slow:
    workload: {{name: idle, size: 2MiB}}
  fast:
    workload: {{name: idle, size: 2MiB}}
timeline:
  - at: 3s
    set:
      vms.slow.workload: {{name: leak, size: 56MiB, args: {{rate: {slow}MiB}}}}
  - at: 14s
    set:
      vms.fast.workload: {{name: leak, size: 56MiB, args: {{rate: {fast}MiB}}}}
duration: 24s
sample: {{fast: 100ms, medium: 500ms, deep: 1s}}
"""
"""For a while in high, below four times minFree; slowly into soft, where balloons soon stand at
their largest (10 %), so that there is something that no balloon can bring; then faster than steps
of half a per cent can follow, through hard into low, with a pool that a few steps fill (6 %). No VM
starts late: its image would be a jump."""
PACE = 500
"""The lab's pages_to_scan."""
FASTER = {"esx15": 20}
"""MiB/s, else 8: in hard it swaps at once, and what is in the swap cache is free, which 8 did not
bring it through to low."""
SLOWER = slow_motion(3)
"""An emulated CPU had a tick every two or three seconds, and soft, 3 MiB wide, was stepped over."""

HIGH, CLEAR, SOFT, HARD, LOW = "high", "clear", "soft", "hard", "low"
SHARE, NOW, BALLOON = "share", "share now", "balloon"
COMPRESS, SWAP, BLOCK = "compression", "swap", "block"
SHEET = {
    # OSDI 2002: sharing always on in the background; in soft paged where no balloon can grow.
    "esx15": {
        HIGH: {SHARE}, SOFT: {SHARE, BALLOON, SWAP}, HARD: {SHARE, SWAP}, LOW: {SHARE, SWAP, BLOCK},
    },
    # 4.1 and 5 share where large pages are broken up: in every state but high.
    "esx41": {
        HIGH: set(), SOFT: {SHARE, BALLOON, COMPRESS}, HARD: {SHARE, BALLOON, COMPRESS, SWAP},
        LOW: {SHARE, SWAP},
    },
    "esxi5": {
        HIGH: set(), SOFT: {SHARE, BALLOON}, HARD: {SHARE, BALLOON, COMPRESS},
        LOW: {SHARE, BALLOON, COMPRESS, SWAP},
    },
    # The balloon stops in hard; below four times minFree sharing runs in high already.
    "esxi6": {
        HIGH: {SHARE}, CLEAR: {NOW}, SOFT: {NOW, BALLOON}, HARD: {NOW, COMPRESS, SWAP},
        LOW: {COMPRESS, SWAP, BLOCK},
    },
}  # fmt: skip
"""What each state of each release does, as published: written out here, not taken from the code."""

_LATER = {SOFT: 0.64, HARD: 0.32, LOW: 0.16}
BELOW = {
    "esx15": {SOFT: 4 / 6, HARD: 2 / 6, LOW: 1 / 6},
    "esx41": _LATER,
    "esxi5": _LATER,
    "esxi6": {CLEAR: 1.0, **_LATER},
}
"""Parts of minFree (6 % of a budget below 4 GiB) below which a state is entered."""


@pytest.fixture(autouse=True)
def _runs_go_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLAB_DIR", str(tmp_path))


def run(folder: Path, text: str, *, slower: float = 1.0) -> RunOutcome:
    path = folder / "states.memlab.yaml"
    path.write_text(text)
    outcome = Session(prepare(stretch(load(path), slower)), Nobody()).run()
    outcome.restored.check()
    return outcome


def told(outcome: RunOutcome) -> list[Moment]:
    with Derived.open(outcome.recording) as source:
        assert not [event for event in source.events() if event.kind == "oom-kill"]
        return moments(source)


def acted(moment: Moment) -> set[str]:
    """What was done at this tick; giving back (deflating, thawing, a slower ksmd) is free in any
    state, and so is what moves memory between VMs in high."""
    words = set()
    for one in moment.actions:
        word = one.mechanism
        if word == "sharing":
            word = NOW if "called for now" in one.reason else SHARE
        rebalances = moment.state == HIGH and one.reason.startswith("rebalanced: ")
        if not gives_back(one.reason) and not rebalances:
            words.add(word)
    return words


def gives_back(reason: str) -> bool:
    words = ("gives back", "no more above its target", "back at the lab's pace")
    return any(word in reason for word in words)


def needs(moment: Moment, act: str, policy: str) -> bool:
    """Whether there was something for this act to do: sharing to be turned, or a VM 1 MiB above its
    target, with a balloon that can still grow, room in the pool, slots, not blocked yet."""
    view = moment.view
    assert view is not None
    if act == SHARE:
        return not view.sharing_on
    if act == NOW:
        return (view.pages_to_scan or 0) <= PACE
    above = above_target(view, policy)
    pool, slots = view.pool < 0.9 * view.pool_cap, view.swap_used < 0.95 * view.swap_size
    if act == COMPRESS:
        return bool(above) and pool
    if act == SWAP:
        compresses = COMPRESS in SHEET[policy][moment.state]
        return bool(above) and slots and not (compresses and pool)
    if act == BLOCK:
        return any(not vm.blocked for vm in above)
    grows = (vm for vm in above if vm.ballooned is not None and not vm.blocked)
    return any((vm.ballooned or 0) < 0.09 * vm.configured for vm in grows)


def above_target(view: View, policy: str) -> list[VmView]:
    """By the price of OSDI 2002: what all together may have is the budget less what the host keeps
    free, half-way between the edges of soft."""
    inner, outer = (4 / 6, 1.0) if policy == "esx15" else (0.64, 0.704)
    overhead = sum(vm.overhead or 0 for vm in view.vms)
    memory = view.budget * (1 - 0.06 * (inner + outer) / 2) - view.pool - overhead
    clients = [Client(vm.name, vm.shares, vm.configured, active=vm.active) for vm in view.vms]
    sizes = targets(clients, int(memory) + (view.saved_sharing or 0), tax=0.75)
    return [vm for vm in view.vms if (vm.resident or 0) - sizes[vm.name] >= MIB]


def beyond(policy: str, found: list[Moment]) -> list[str]:
    """What was done in a state for which the sheet does not have it."""
    wrong = []
    for moment in found:
        if extra := acted(moment) - SHEET[policy][moment.state]:
            reasons = [one.reason for one in moment.actions]
            wrong.append(f"{moment.time:.2f} s, {moment.state}: {sorted(extra)} of {reasons}")
    return wrong


def lacking(policy: str, found: list[Moment]) -> list[str]:
    """What the sheet has and no tick did, or could have done."""
    sheet, wrong = SHEET[policy], []
    for act in sorted(set[str]().union(*sheet.values())):
        ticks = [moment for moment in found if act in sheet[moment.state]]
        needed = [moment for moment in ticks if needs(moment, act, policy)]
        states = [state for state in sheet if act in sheet[state]]
        if not needed:
            wrong.append(f"{act}: none of the {len(ticks)} ticks in {states} had a need for it")
        elif not any(act in acted(moment) for moment in ticks):
            stood = dict(Counter(moment.state for moment in needed))
            wrong.append(f"{act}: not done though needed in {stood}: {why_left(needed, act)}")
    return wrong


def why_left(found: list[Moment], act: str) -> str:
    """Why an act was left alone in these ticks, the most frequent reasons first."""
    mechanism = "sharing" if act in (SHARE, NOW) else act
    reasons = (left.reason for each in found for left in each.left if left.mechanism == mechanism)
    told = [f"{count} × {reason}" for reason, count in Counter(reasons).most_common(4)]
    return "; ".join(told) or "no reason was given"


@pytest.mark.parametrize("policy", SHEET)
def test_each_release_does_in_its_states_what_the_sheet_says(policy: str, tmp_path: Path) -> None:
    """No more in any state, and each act somewhere: a run that could not show one fails too."""
    # Slow motion divides rates by its square; as many MiB are to come as without it.
    text = STATES.format(policy=policy, slow=4 * SLOWER, fast=FASTER.get(policy, 8) * SLOWER)
    found = told(run(tmp_path, text, slower=SLOWER))
    visited = Counter(moment.state for moment in found)
    assert set(visited) == set(SHEET[policy]), f"the run did not stand in every state: {visited}"
    for moment in found:
        deeper = [part for state, part in BELOW[policy].items() if _is_below(state, moment)]
        assert max(deeper, default=float("-inf")) <= _part_of_min_free(moment), moment
    wrong = [*beyond(policy, found), *lacking(policy, found)]
    assert not wrong, "\n".join([*wrong[:20], f"ticks by state: {dict(visited)}"])


def _is_below(state: str, moment: Moment) -> bool:
    """Whether `state` is deeper than where the moment stood. A state is left upwards one at a time,
    so that it may lag behind what is free; downwards it is left at once."""
    order = (HIGH, CLEAR, SOFT, HARD, LOW)
    return order.index(state) > order.index(moment.state)


def _part_of_min_free(moment: Moment) -> float:
    assert moment.view is not None
    return moment.view.available / (0.06 * moment.view.budget)


LAB = """
name: rude
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
duration: {seconds}s
sample: {{fast: 200ms, medium: 500ms, deep: 1s}}
"""
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
    outcome = run(tmp_path, LAB.format(policy='"rude.py:Rude"', seconds=seconds))
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
