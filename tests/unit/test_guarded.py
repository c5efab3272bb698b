"""A policy that fails: it raises, hangs, or decides what cannot be; each is one clear sentence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from memlab.control.guarded import PolicyError, decide, nonsense
from memlab.control.policies import POLICIES, build
from memlab.control.policy import (
    Balloon,
    Block,
    Decision,
    LeftAlone,
    Mechanism,
    Reclaim,
    Share,
    View,
)
from memlab.control.settings import UNSCALED, Scales
from memlab.units import MIB
from tests.unit.policy_views import view


class Strange:
    """A policy that does as it is told."""

    name: ClassVar[str] = "strange"
    settings: Any = None
    scales: Scales = UNSCALED

    def __init__(self, does: Callable[[View], Any]) -> None:
        self._does = does

    def decide(self, seen: View) -> Decision:
        answer: Decision = self._does(seen)
        return answer


def odd(value: object) -> Any:
    """What a stranger's policy may put where it does not belong."""
    return value


def test_a_good_decision_comes_through_with_its_time() -> None:
    wanted = Decision("fine", (Balloon("a", MIB, "because"),))
    found, took = decide(Strange(lambda _: wanted), view(0.5))
    assert found is wanted
    assert 0 < took < 1


def test_an_exception_names_its_place() -> None:
    with pytest.raises(PolicyError, match=r"policy strange raised ZeroDivisionError.*line \d+"):
        decide(Strange(lambda _: 1 // 0), view(0.5))


def test_a_hang_is_ended_even_where_everything_is_caught() -> None:
    def stubborn(_seen: View) -> Any:
        while True:
            with suppress(Exception):
                time.sleep(5)

    began = time.monotonic()
    with pytest.raises(PolicyError, match=r"had not decided after 0\.2 s"):
        decide(Strange(stubborn), view(0.5), deadline=0.2)
    assert time.monotonic() - began < 3


def test_a_busy_loop_is_ended_too() -> None:
    def busy(_seen: View) -> Any:
        number = 0
        while True:
            number += 1

    with pytest.raises(PolicyError, match="had not decided"):
        decide(Strange(busy), view(0.5), deadline=0.2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "NoneType, not a Decision"),
        (Decision(odd(7)), "state is not a word"),
        (Decision("x", odd(("balloon",))), "an action is of type str"),
        (Decision("x", (Balloon("a", MIB, ""),)), "without a reason"),
        (Decision("x", (Balloon("z", MIB, "why"),)), "no VM 'z'"),
        (Decision("x", (Block("z", True, "why"),)), "no VM 'z'"),
        (Decision("x", (Balloon("a", -1, "why"),)), "a balloon of -1 B"),
        (Decision("x", (Balloon("a", 201 * MIB, "why"),)), "201.0 MiB in a VM of 200.0 MiB"),
        (Decision("x", (Balloon("a", odd(math.nan), "why"),)), "a balloon of nan"),
        (Decision("x", (Reclaim("a", 0, Mechanism.SWAP, "why"),)), "0 B pushed out"),
        (Decision("x", (Reclaim("a", 300 * MIB, Mechanism.SWAP, "why"),)), "300.0 MiB pushed"),
        (Decision("x", (Reclaim("a", MIB, Mechanism.BALLOON, "why"),)), "cannot be pushed into"),
        (Decision("x", (Share(True, "why", 0),)), "pages_to_scan 0"),
        (Decision("x", (), (LeftAlone(Mechanism.SWAP, odd(3)),)), "not a LeftAlone"),
    ],
)
def test_what_cannot_be_is_named(answer: Any, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        decide(Strange(lambda _: answer), view(0.5))
    assert words in caught.value.message


@pytest.mark.parametrize("name", POLICIES)
def test_none_of_ours_decides_nonsense(name: str) -> None:
    for free in (-0.2, 0.0, 0.02, 0.1, 0.9):
        policy = build(name, {})
        for tick in range(4):
            seen = view(free, time=tick * 70.0)
            assert nonsense(policy.decide(seen), seen) == ""
