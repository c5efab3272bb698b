"""How a run came out: expectations judged, kills counted, one verdict and one exit status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from memlab.kernel.restored import Restored
from memlab.lab.spec import Expect, Lab
from memlab.record import condition
from memlab.record.condition import Outcome
from memlab.record.series import Source


class Ended(StrEnum):
    """What ended a run."""

    FINISHED = "finished"
    STOPPED = "stopped"
    ABORTED = "aborted"


class Said(StrEnum):
    """The verdict on a run."""

    PASSED = "passed"
    FAILED = "failed"
    INVALID = "invalid"
    INCONCLUSIVE = "inconclusive"


_SAID: Final = {
    Outcome.PASS: Said.PASSED,
    Outcome.FAIL: Said.FAILED,
    Outcome.INCONCLUSIVE: Said.INCONCLUSIVE,
}
_EXIT: Final = {Said.PASSED: 0, Said.FAILED: 1, Said.INVALID: 1, Said.INCONCLUSIVE: 4}


@dataclass(frozen=True, slots=True)
class Judged:
    """One expectation against the run, in words."""

    name: str
    that: str
    outcome: str
    measured: str
    expected: str
    text: str
    where: str | None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What `up` answers. `reasons` says why the verdict is not "passed"."""

    said: Said
    ended: Ended
    recording: Path
    reasons: tuple[str, ...] = ()
    expects: tuple[Judged, ...] = field(default=())
    restored: Restored = Restored()  # noqa: RUF009 — frozen

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed or invalid, 4 inconclusive or with warnings, 130 interrupted."""
        if not self.restored.ok:
            return 1
        if self.ended is Ended.STOPPED:
            return 130
        code = _EXIT[self.said]
        return 4 if code == 0 and self.restored.left else code


def judge(lab: Lab, source: Source) -> tuple[Judged, ...]:
    """Every expectation of the lab file against what was measured."""
    return tuple(_judged(expect, source) for expect in lab.expect)


def _judged(expect: Expect, source: Source) -> Judged:
    found = condition.parse(expect.that, vms=source.vms).judge(source, within=expect.within)
    said = {Outcome.PASS: expect.passed, Outcome.FAIL: expect.failed}.get(found.outcome)
    unknown = found.why if found.outcome is Outcome.INCONCLUSIVE else ""
    return Judged(
        name=expect.name,
        that=expect.that,
        outcome=str(_SAID[found.outcome]),
        measured=found.measured,
        expected="" if found.expected == expect.that else found.expected,
        text=said or unknown,
        where=None if found.where is None else f"{found.where:.1f} s",
    )


def verdict(
    expects: Sequence[Judged], source: Source, *, bad_pages: int
) -> tuple[Said, tuple[str, ...]]:
    """The verdict with its reasons.

    A run that the guard has ended is void, and so is one with a kill for memory that no
    expectation speaks of.
    """
    events = source.events()
    if aborted := [str(event.data["why"]) for event in events if event.kind == "aborted"]:
        return Said.INVALID, (f"the guard ended the VMs: {aborted[0]}",)
    kills = [event for event in events if event.kind == "oom-kill"]
    expected = any("oom" in expect.that for expect in expects)
    if bad_pages:
        return Said.FAILED, (f"{bad_pages} application pages were lost or changed",)
    if kills and not expected:
        return Said.INVALID, tuple(
            f"{event.vm or 'a VM'} was killed for memory at {event.time:.1f} s" for event in kills
        )
    for said in (Said.FAILED, Said.INCONCLUSIVE):
        if found := [one for one in expects if one.outcome == said]:
            return said, tuple(
                f"{one.name}: {one.text or f'{one.measured}, expected {one.expected}'}"
                for one in found
            )
    return Said.PASSED, ()


def closing(
    said: Said,
    reasons: Sequence[str],
    ended: Ended,
    expects: Sequence[Judged],
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """What the manifest gains when the run has ended."""
    return {
        "ended": str(ended),
        "verdict": {"outcome": str(said), "reasons": list(reasons)},
        "expects": [asdict(one) for one in expects],
        "results": dict(results),
    }


def restored_facts(restored: Restored) -> dict[str, Any]:
    """What became of the host, for the manifest."""
    return {
        "restored": {
            "ok": restored.ok,
            "given_back": list(restored.given_back),
            "left": [str(one) for one in restored.left],
            "failed": [str(one) for one in restored.failed],
        }
    }
