"""Chosen numbers out of a file of `name value` lines, for what is read at every sample.

The kernel prints such a file in one order from boot to boot, so where each name stands is looked
up once, and at each later reading only checked: a file with more or fewer lines, or in which a
chosen name has moved, is looked up anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

Numbers = tuple[int | None, ...]


class Picker:
    """`picker(raw)` gives the numbers behind `names`, in their order; None where there is none."""

    __slots__ = (
        "_absent",
        "_found",
        "_is_there",
        "_last",
        "_lines",
        "_names_at",
        "_numbers_at",
        "names",
    )

    def __init__(self, names: Sequence[bytes]) -> None:
        self.names = tuple(names)
        self._absent: Numbers = (None,) * len(self.names)
        self._found: tuple[bytes, ...] = ()
        self._is_there: tuple[bool, ...] = ()
        self._last = self._lines = -1
        self._names_at: Callable[[list[bytes]], Any] = tuple
        self._numbers_at: Callable[[list[bytes]], Any] = tuple

    def __call__(self, raw: bytes | None) -> Numbers:
        """The numbers in the bytes of the file; all None without it."""
        if raw is None:
            return self._absent
        words = raw.split(None, self._last)  # what stands behind is left in one piece
        if raw.count(b"\n") != self._lines or not self._stand_as_before(words):
            self._lines, words = raw.count(b"\n"), raw.split()
            self._look_up(words)
        numbers = map(int, self._numbers_at(words))
        if len(self._found) == len(self.names):
            return tuple(numbers)
        return tuple([next(numbers) if there else None for there in self._is_there])

    def _stand_as_before(self, words: list[bytes]) -> bool:
        try:
            return bool(self._found) and self._names_at(words) == self._found
        except IndexError:
            return False

    def _look_up(self, words: list[bytes]) -> None:
        wanted, places = set(self.names), dict[bytes, int]()
        for place, word in enumerate(words[:-1]):
            if word in wanted:
                places.setdefault(word, place)
        self._found = tuple(name for name in self.names if name in places)
        self._is_there = tuple(name in places for name in self.names)
        self._last = max(places.values(), default=-3) + 2
        self._names_at = _getter([places[name] for name in self._found])
        self._numbers_at = _getter([places[name] + 1 for name in self._found])


def _getter(places: list[int]) -> Callable[[list[bytes]], Any]:
    """As itemgetter, but a tuple also of one place, or of none."""
    if len(places) >= 2:
        return itemgetter(*places)
    return lambda words: tuple([words[place] for place in places])
