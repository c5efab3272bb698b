"""A policy that fails: it raises, hangs, or decides what cannot be; each is one clear sentence."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from memlab.control.guarded import PolicyError, decide
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
from memlab.control.sound import sound
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
    assert found == wanted
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
        (Decision("x", odd(None)), "its actions are of type NoneType"),
        (Decision("x", (), odd(None)), "its left_alone are of type NoneType"),
        (Decision("x", odd(7)), "its actions are of type int"),
        (Decision("x", (Balloon(odd([]), MIB, "why"),)), "no VM []"),
        (Decision("x", (Balloon("a", 10**400, "why"),)), "a balloon of 1000"),
        (Decision("x", (Balloon("a", odd(True), "why"),)), "a balloon of 1 B"),
        (Decision("x", (Balloon("a", MIB, odd(["why"])),)), "without a reason"),
        (Decision("x", (Balloon("a", MIB, "\ud800"),)), "without a reason"),
        (Decision("\ud800"), "state is not a word"),
        (Decision("x", (Reclaim("a", MIB, odd([]), "why"),)), "cannot be pushed into []"),
        (Decision("x", (Reclaim("a", MIB, Mechanism.SWAP, "why", odd([])),)), "Reclaim.oldest is"),
        (Decision("x", (Block("a", odd("yes"), "why"),)), "Block.on is 'yes', not True or False"),
        (Decision("x", (Share(odd(1), "why"),)), "Share.on is 1"),
        (Decision("x", (), odd((7,))), "not a LeftAlone"),
        (Decision("x", (), (LeftAlone(odd([]), "why"),)), "there is no mechanism []"),
        (Decision("x", (), (LeftAlone(odd("zswap"), "why"),)), "there is no mechanism 'zswap'"),
        (Decision("x", (), (LeftAlone(Mechanism.SWAP, "why", odd(7)),)), "a text, not 7"),
    ],
)
def test_what_cannot_be_is_named(answer: Any, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        decide(Strange(lambda _: answer), view(0.5))
    assert words in caught.value.message


def raising(error: BaseException) -> Callable[[View], Any]:
    def does(_seen: View) -> Any:
        raise error

    return does


def test_a_policy_that_ends_the_program_ends_only_itself() -> None:
    with pytest.raises(PolicyError, match=r"policy strange raised SystemExit: 3 \(.*line \d+\)"):
        decide(Strange(raising(SystemExit(3))), view(0.5))


def test_ctrl_c_is_the_user_s() -> None:
    with pytest.raises(KeyboardInterrupt):
        decide(Strange(raising(KeyboardInterrupt())), view(0.5))


def test_a_generator_of_actions_is_not_used_up_by_the_check() -> None:
    action, left = Balloon("a", MIB, "why"), LeftAlone(Mechanism.SWAP, "why")
    made = Decision("x", odd(one for one in [action]), odd([left]))
    found, _ = decide(Strange(lambda _: made), view(0.5))
    assert found == Decision("x", (action,), (left,))


def test_actions_without_an_end_are_ended() -> None:
    def endless(_seen: View) -> Decision:
        return Decision("x", odd(iter(lambda: time.sleep(0.01), 1)))

    with pytest.raises(PolicyError, match="had not decided"):
        decide(Strange(endless), view(0.5), deadline=0.2)


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError


class Rude(Decision):
    """A decision that runs code when it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit("looked at")


def test_looking_at_what_it_gave_may_raise_too() -> None:
    with pytest.raises(PolicyError, match="raised MuteError: it cannot say what"):
        decide(Strange(raising(MuteError())), view(0.5))
    with pytest.raises(PolicyError, match="raised SystemExit: looked at"):
        decide(Strange(lambda _: Rude("x")), view(0.5))


def test_a_name_that_cannot_be_read_is_the_class_s() -> None:
    class Nameless(Strange):
        name = odd(property(lambda _: 1 // 0))

    with pytest.raises(PolicyError, match="policy Nameless raised SystemExit"):
        decide(Nameless(raising(SystemExit())), view(0.5))


def test_the_timer_is_off_and_the_handler_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGALRM)
    for does in (raising(SystemExit()), lambda _: time.sleep(5)):
        with pytest.raises(PolicyError):
            decide(Strange(does), view(0.5), deadline=0.2)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("name", POLICIES)
def test_none_of_ours_decides_nonsense(name: str) -> None:
    for free in (-0.2, 0.0, 0.02, 0.1, 0.9):
        policy = build(name, {})
        for tick in range(4):
            seen = view(free, time=tick * 70.0)
            decided = policy.decide(seen)
            assert sound(decided, seen) == decided
