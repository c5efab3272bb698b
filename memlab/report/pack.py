"""Many series as one short text: int32 deltas, deflate, base64.

A page of a million points is 1.8 MB this way and 49 MB as JSON. Each series is scaled to whole
numbers (bytes to KiB, seconds to 100 ns, ...), held as the difference from the value before, modulo
2**32, and all of them are deflated together. Absent is `ABSENT`, never 0. `page.js` undoes it.
"""

from __future__ import annotations

import base64
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from memlab.record.columns import Unit

ABSENT: Final = -(2**31)
LARGEST: Final = 2**31 - 1
TIME: Final = 1e-3
"""Seconds in one step of a time series: a millisecond."""

STEP: Final = {
    Unit.BYTES: 1024.0,
    Unit.BYTES_PER_SECOND: 1024.0,
    Unit.SECONDS: 1e-7,
    Unit.FRACTION: 1e-5,
    Unit.PER_SECOND: 1e-2,
    Unit.COUNT: 1.0,
    Unit.RATIO: 1e-4,
}


@dataclass(frozen=True, slots=True)
class Packed:
    """`text` holds all series one after the other; `lengths[i]` values of `steps[i]` each."""

    text: str
    lengths: tuple[int, ...]
    steps: tuple[float, ...]


def whole(values: Iterable[float | None], step: float) -> array[int]:
    """The values as whole multiples of `step`; absent ones as ABSENT, larger ones held at the end
    of the range (2 TiB for bytes)."""
    return array(
        "i",
        (
            ABSENT if value is None else max(-LARGEST, min(LARGEST, round(value / step)))
            for value in values
        ),
    )


def deltas(values: Sequence[int]) -> array[int]:
    """Each value less the one before, modulo 2**32, as a signed number: the first stays."""
    result = array("i")
    before = 0
    for value in values:
        result.append((value - before + 2**31) % 2**32 - 2**31)
        before = value
    return result


def pack(series: Sequence[tuple[Iterable[float | None], float]]) -> Packed:
    """Pack pairs of values and step. Precision is half a step."""
    numbers = array("i")
    lengths = []
    for values, step in series:
        steps = whole(values, step)
        lengths.append(len(steps))
        numbers.extend(deltas(steps))
    if sys.byteorder == "big":
        numbers.byteswap()
    text = base64.b64encode(zlib.compress(numbers.tobytes(), 9)).decode("ascii")
    return Packed(text, tuple(lengths), tuple(step for _, step in series))


def unpack(packed: Packed) -> list[list[float | None]]:
    """The series again: what the page does, said in Python."""
    numbers = array("i", zlib.decompress(base64.b64decode(packed.text)))
    if sys.byteorder == "big":
        numbers.byteswap()
    result: list[list[float | None]] = []
    at = 0
    for length, step in zip(packed.lengths, packed.steps, strict=True):
        value, series = 0, []
        for delta in numbers[at : at + length]:
            value = (value + delta + 2**31) % 2**32 - 2**31
            series.append(None if value == ABSENT else value * step)
        result.append(list(series))
        at += length
    return result
