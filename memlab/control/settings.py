"""The settings of a policy: what each is, how it is written, and what it means.

A policy declares them as the fields of a frozen dataclass, each made by one of `percent`,
`duration`, `size`, `number`, `switch` and `text`; the lab file, `set` and the documentation are
held against that declaration. Inside, a setting is a float, an int or a bool (fraction, seconds,
bytes), or a text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, cast

from memlab.units import UnitError, format_size, parse_duration, parse_percent, parse_size

Value = float | int | bool | str


class Kind(StrEnum):
    """How a setting is written in a lab file."""

    PERCENT = "percent"
    DURATION = "duration"
    SIZE = "size"
    NUMBER = "number"
    SWITCH = "switch"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a policy. `default` is the value inside."""

    name: str
    kind: Kind
    default: Value
    meaning: str

    def read(self, raw: object) -> Value:
        """The value that `raw` of a lab file means; UnitError with the right spelling."""
        return _READ[self.kind](raw)

    def show(self, value: Value) -> str:
        """The value as it would be written."""
        return _SHOW[self.kind](value)


@dataclass(frozen=True, slots=True)
class Scales:
    """What divides every published period and step, alike for all policies of a comparison.

    The peers act every 6–60 s in small steps, on hosts of many GiB: a lab of half a minute and half
    a GiB would be over before they had begun.
    """

    time: float = 1.0
    size: float = 1.0


UNSCALED: Final = Scales()


def percent(default: float, meaning: str) -> Any:
    """A fraction, written as `65%`."""
    return _declared(default, Kind.PERCENT, meaning)


def duration(default: float, meaning: str) -> Any:
    """Seconds, written as `10s`."""
    return _declared(default, Kind.DURATION, meaning)


def size(default: int, meaning: str) -> Any:
    """Bytes, written as `100MiB`."""
    return _declared(default, Kind.SIZE, meaning)


def number(default: float, meaning: str) -> Any:
    """A plain number, not negative."""
    return _declared(default, Kind.NUMBER, meaning)


def switch(default: bool, meaning: str) -> Any:
    """`on` or `off`."""
    return _declared(default, Kind.SWITCH, meaning)


def text(default: str, meaning: str) -> Any:
    """Words, for the policy to read: a list of names, say."""
    return _declared(default, Kind.TEXT, meaning)


def _declared(default: Value, kind: Kind, meaning: str) -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, "meaning": meaning})


def declared(settings_type: type) -> Mapping[str, Setting]:
    """The settings that a policy's dataclass declares, by name."""
    return {
        field.name: Setting(
            field.name,
            field.metadata["kind"],
            cast(Value, field.default),
            field.metadata["meaning"],
        )
        for field in dataclasses.fields(settings_type)
    }


def _percent(raw: object) -> float:
    if isinstance(raw, float) and 0 <= raw <= 1:
        raise UnitError(f"{raw:g} is not a percentage", f"write {raw * 100:g}%")
    return parse_percent(_text(raw, "a percentage", "write 0% to 100%"))


def _duration(raw: object) -> float:
    return parse_duration(_text(raw, "a duration", "write 4s or 1m30s"))


def _size(raw: object) -> int:
    return parse_size(_text(raw, "a size", "write a number and a unit, such as 256MiB"))


def _number(raw: object) -> float:
    text = _text(raw, "a number", "write a number, such as 10")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise UnitError(f"{str(raw)[:40]!r} is not a number of 0 or more", "write a number")
    return value


def _switch(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if raw in ("on", "off"):
        return raw == "on"
    raise UnitError(f"{str(raw)[:40]!r} is not a switch", "write on or off")


def _text(raw: object, what: str, fix: str) -> str:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise UnitError(f"{str(raw)[:40]!r} is not {what}", fix)
    return str(raw)


_READ: Final[Mapping[Kind, Callable[[object], Value]]] = {
    Kind.PERCENT: _percent,
    Kind.DURATION: _duration,
    Kind.SIZE: _size,
    Kind.NUMBER: _number,
    Kind.SWITCH: _switch,
    Kind.TEXT: lambda raw: _text(raw, "a text", "write it in quotes"),
}
_SHOW: Final[Mapping[Kind, Callable[[Any], str]]] = {
    Kind.PERCENT: lambda value: f"{value * 100:g}%",
    Kind.DURATION: lambda value: f"{value:g}s",
    Kind.SIZE: lambda value: format_size(value, digits=0).replace(" ", ""),
    Kind.NUMBER: lambda value: f"{value:g}",
    Kind.SWITCH: lambda value: "on" if value else "off",
    Kind.TEXT: str,
}
