"""The settings of a workload: written with units, checked by the agent's own table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic_core import PydanticCustomError

from memlab.guest.workloads import WORKLOADS, Arg, Kind
from memlab.lab.values import refuse, to_fraction, to_seconds, to_size

Argument = float | int | str | tuple[int, ...]


def arguments(workload: str, args: Mapping[str, Any]) -> dict[str, Argument]:
    """`args` in plain numbers (bytes, seconds, fractions) as the agent wants them.

    Raises ArgumentsError with all that is wrong.
    """
    known = {arg.name: arg for arg in WORKLOADS[workload].args}
    read: dict[str, Argument] = {}
    wrong: list[tuple[str, PydanticCustomError]] = []
    for name, value in args.items():
        try:
            if name not in known:
                raise _unknown(workload, name, list(known))
            read[name] = _argument(known[name], value)
        except PydanticCustomError as error:
            wrong.append((name, error))
    if wrong:
        raise ArgumentsError(wrong)
    return read


class ArgumentsError(ValueError):
    """All the settings of a workload that are refused, each by name."""

    def __init__(self, wrong: list[tuple[str, PydanticCustomError]]) -> None:
        super().__init__(", ".join(name for name, _ in wrong))
        self.wrong = wrong


def _unknown(workload: str, name: str, known: list[str]) -> PydanticCustomError:
    near = get_close_matches(name, known, n=1)
    there = f"there is: {', '.join(known)}" if known else "remove it; there are none"
    fix = f"write {near[0]}" if near else there
    return refuse("argument", f"the workload {workload} has no setting {name!r}", fix)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refuse("argument", f"{str(value)[:40]!r} is not a number", "write a plain number")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise refuse("argument", f"{str(value)[:40]!r} is not a whole number", "write such as 3")
    return value


def _fraction(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _number(value) if is_number else to_fraction(value)


def _levels(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 1000:
        raise refuse("argument", "it is not a list of sizes", "write such as [16MiB, 64MiB]")
    return tuple(to_size(level) for level in value)


_READ: Final[Mapping[Kind, Callable[[object], Argument]]] = {
    Kind.SIZE: to_size,
    Kind.SIZE_PER_SECOND: to_size,
    Kind.DURATION: to_seconds,
    Kind.FRACTION: _fraction,
    Kind.NUMBER: _number,
    Kind.COUNT: _count,
    Kind.RATE: _number,
    Kind.LEVELS: _levels,
}


def _argument(arg: Arg, value: object) -> Argument:
    read = _READ[arg.kind](value)
    for number in read if isinstance(read, tuple) else (read,):
        if isinstance(number, int | float) and not arg.minimum <= number <= arg.maximum:
            bounds = f"{arg.minimum:g} to {arg.maximum:g}"
            raise refuse("argument", f"{value!r} is outside {bounds}", f"write a value of {bounds}")
    return read
