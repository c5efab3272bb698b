"""A policy asked again, on what was seen in a recorded run: how one tries a policy of one's own.

    from memlab.control.replay import replay
    for view, decision in replay(Mine(), "my.memlab/runs/2026-11-26T12-00-00"):
        print(view.time, decision.state, decision.actions)

The views hold what the recorded policy had done, not what this one would have: it tells what a
policy decides, not what would have come of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from memlab.control.guarded import decide
from memlab.control.policy import Decision, Policy, View
from memlab.control.view import from_json
from memlab.record.derive import Derived


def replay(policy: Policy, run: Path | str) -> Iterator[tuple[View, Decision]]:
    """Each recorded view with the policy's decision on it, checked as in a running lab.

    PolicyError where the policy raises, is too slow, or decides what cannot be carried out.
    """
    with Derived.open(Path(run), check=False) as source:
        ticks = source.ticks()
    for tick in ticks:
        view = from_json(tick.view)
        yield view, decide(policy, view)[0]
