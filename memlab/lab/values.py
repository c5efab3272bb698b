"""The scalar types of a lab file: how each is written, checked and described to an editor.

A refusal is a `PydanticCustomError` whose context carries the fix, so that `faults.py` can show
it beside the line.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from memlab.units import UnitError, format_size, parse_duration, parse_percent, parse_size

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,31}$"
_SIZE_PATTERN: Final = r"^\s*\d+(\.\d+)?\s*(B|[KMGT](i|iB)?)\s*$"
_DURATION_PATTERN: Final = r"^\s*(\d+(\.\d+)?(us|ms|s|m|h))+\s*$"
_PERCENT_PATTERN: Final = r"^\s*\d+(\.\d+)?\s*%\s*$"
_SWITCH: Final = {"on": True, "off": False, True: True, False: False}


def refuse(kind: str, message: str, fix: str) -> PydanticCustomError:
    """The refusal of one value: `kind` decides the fault's code."""
    # Braces would be taken for places to fill in: the words go in as context.
    return PydanticCustomError(kind, "{message}", {"message": message, "fix": fix})


@dataclass(frozen=True, slots=True)
class Amount:
    """A size, or a percentage of something that is only known later."""

    size: int | None = None
    fraction: float | None = None

    def of(self, whole: int) -> int:
        """Bytes, where `whole` is what a percentage is of."""
        return self.size if self.size is not None else round((self.fraction or 0.0) * whole)


def _text(value: object, kind: str, what: str, fix: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refuse(kind, f"{_shown(value)} is not {what}", fix)
    return str(value)


def _shown(value: object) -> str:
    names = {dict: "a map", list: "a list", type(None): "nothing", bool: "true or false"}
    return names.get(type(value), repr(value))


def to_size(value: object) -> int:
    """Bytes from `256MiB`; a number of bytes is refused, because nobody sees which unit it has."""
    text = _text(value, "size", "a size", "write a number and a unit, such as 256MiB")
    try:
        return parse_size(text)
    except UnitError as error:
        raise refuse("size", str(error), error.fix) from None


def to_seconds(value: object) -> float:
    """Seconds from `1m30s`, at most a week."""
    text = _text(value, "duration", "a duration", "write 4s or 1m30s")
    try:
        seconds = parse_duration(text)
    except UnitError as error:
        raise refuse("duration", str(error), error.fix) from None
    if not seconds <= 7 * 86400:
        raise refuse("duration", f"{text!r} is longer than a week", "write a shorter duration")
    return seconds


def to_period(value: object) -> float:
    """Seconds from a duration, or from a rate such as `4Hz`."""
    if isinstance(value, str) and (rate := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*Hz\s*", value)):
        if not float(rate[1]):
            raise refuse("duration", "0Hz is never", "leave the tier out, or write a rate")
        return 1 / float(rate[1])
    return to_seconds(value)


def to_fraction(value: object) -> float:
    """0…1 from `65%`."""
    text = _text(value, "percent", "a percentage", "write 0% to 100%")
    try:
        return parse_percent(text)
    except UnitError as error:
        number = text.strip().replace(".", "", 1)
        fix = (
            f"write {float(text) * 100:g}%" if number.isdigit() and float(text) <= 1 else error.fix
        )
        raise refuse("percent", str(error), fix) from None


def to_amount(value: object) -> Amount:
    """A size or a percentage."""
    if isinstance(value, Amount):
        return value
    if isinstance(value, str) and value.strip().endswith("%"):
        return Amount(fraction=to_fraction(value))
    return Amount(size=to_size(value))


def to_size_of_memory(value: object, info: ValidationInfo) -> int:
    """A size, or a percentage of the VM's memory (0 while that is not known, in `defaults`)."""
    return to_amount(value).of(info.data.get("memory") or 0)


def to_switch(value: object) -> bool:
    """`on` and `off` are strings in YAML 1.2 and truth values in 1.1: both are taken."""
    if isinstance(value, str | bool) and value in _SWITCH:
        return _SWITCH[value]
    raise refuse("switch", f"{_shown(value)} is not a switch", "write on or off")


def to_ratio(value: object) -> float:
    """n of a compressibility written as `3` or `3:1`."""
    text = value.strip().removesuffix(":1") if isinstance(value, str) else value
    try:
        ratio = float(text) if isinstance(text, str | int | float) else math.nan
    except ValueError:
        ratio = math.nan
    if isinstance(value, bool) or not 1 <= ratio <= 64:
        raise refuse("ratio", f"{_shown(value)} is not a ratio", "write 1 to 64, such as 3 or 3:1")
    return ratio


def is_name(text: str) -> bool:
    """Whether it can stand in a path, a cgroup and a condition."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def to_name(value: object) -> str:
    """A name, as `is_name` allows."""
    if isinstance(value, str) and is_name(value):
        return value
    fix = "use 1 to 32 of a-z 0-9 _ -, beginning with a letter or digit"
    raise refuse("name", f"{_shown(value)} cannot be a name", fix)


def _pattern(pattern: str, what: str, *examples: str) -> WithJsonSchema:
    schema = {"type": "string", "pattern": pattern, "examples": list(examples), "title": what}
    return WithJsonSchema(schema)


def at_least(size: int) -> AfterValidator:
    """Refuse a smaller size."""

    def check(value: int) -> int:
        if value < size:
            least = format_size(size, digits=0).replace(" ", "")
            raise refuse("range", f"it must be at least {least}", f"write {least} or more")
        return value

    return AfterValidator(check)


def not_below(seconds: float) -> AfterValidator:
    """Refuse a shorter time."""

    def check(value: float) -> float:
        if value < seconds:
            least = f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"
            raise refuse("range", f"it must be at least {least}", f"write {least} or more")
        return value

    return AfterValidator(check)


_AMOUNT_PATTERN = f"({_SIZE_PATTERN})|({_PERCENT_PATTERN})"
_PERIOD_PATTERN = rf"({_DURATION_PATTERN})|(^\s*\d+(\.\d+)?\s*Hz\s*$)"

Size = Annotated[int, BeforeValidator(to_size), _pattern(_SIZE_PATTERN, "size", "256MiB")]
SizeOfMemory = Annotated[
    int,
    BeforeValidator(to_size_of_memory),
    _pattern(_AMOUNT_PATTERN, "size, or part of the VM's memory", "128MiB", "50%"),
]
SizeOrPercent = Annotated[
    Amount, BeforeValidator(to_amount), _pattern(_AMOUNT_PATTERN, "size or part", "64MiB", "10%")
]
Duration = Annotated[
    float, BeforeValidator(to_seconds), _pattern(_DURATION_PATTERN, "duration", "4s", "1m30s")
]
Period = Annotated[
    float, BeforeValidator(to_period), _pattern(_PERIOD_PATTERN, "period or rate", "250ms", "4Hz")
]
Percent = Annotated[
    float, BeforeValidator(to_fraction), _pattern(_PERCENT_PATTERN, "percentage", "65%")
]
Switch = Annotated[
    bool,
    BeforeValidator(to_switch),
    WithJsonSchema({"enum": ["on", "off", True, False], "title": "switch"}),
]
Ratio = Annotated[
    float,
    BeforeValidator(to_ratio),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 1, "maximum": 64},
                {"type": "string", "pattern": r"^\d+(\.\d+)?(:1)?$"},
            ],
            "title": "ratio n:1",
        }
    ),
]
Name = Annotated[
    str,
    BeforeValidator(to_name),
    WithJsonSchema({"type": "string", "pattern": NAME_PATTERN, "title": "name"}),
]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Argv = Annotated[
    tuple[Annotated[str, Field(max_length=4096)], ...], Field(min_length=1, max_length=256)
]
