"""How figures are written in reports: one unit per kind, and absent ones said in words."""

from __future__ import annotations

from typing import Final

from memlab.control.policy import Mechanism
from memlab.record.columns import Unit
from memlab.units import MIB, format_duration

TITLES: Final = {
    Mechanism.SHARING: "Page sharing",
    Mechanism.BALLOON: "Balloon",
    Mechanism.COMPRESSION: "Compression",
    Mechanism.SWAP: "Swap",
}
ABSENT: Final = "not measured"


def figure(value: float | None, unit: Unit) -> str:
    """`142.0 MiB`, `3.1 %`, `850 /s`, `4.1 µs`; `not measured` for None."""
    if value is None:
        return ABSENT
    match unit:
        case Unit.BYTES:
            return f"{mib(value)} MiB"
        case Unit.BYTES_PER_SECOND:
            return f"{mib(value)} MiB/s"
        case Unit.FRACTION:
            return f"{value * 100:.1f} %"
        case Unit.PER_SECOND:
            return f"{count(value)} /s"
        case Unit.SECONDS:
            return format_duration(value) if value else "0 s"
        case Unit.RATIO:
            return f"{value:.2f} ×"
        case Unit.COUNT:
            return count(value)


def mib(value: float) -> str:
    """Bytes as MiB with one digit and a true minus sign; -0.0 is 0.0."""
    text = f"{value / MIB:,.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−").replace(",", "\u202f")


def count(value: float) -> str:
    """A number to three figures or whole, thousands set apart."""
    digits = 0 if abs(value) >= 100 or value == round(value) else 1
    return f"{value:,.{digits}f}".replace("-", "−").replace(",", "\u202f")


def short_mib(value: float) -> str:
    """`768 MiB`, for a sentence: whole from 10 MiB upward."""
    number = value / MIB
    return f"{number:.0f} MiB" if abs(number) >= 9.95 else f"{number:.1f} MiB"


def change(now: float, before: float) -> str:
    """`14 % below`, `3 % above`, or `as in` the figure that it is held against."""
    part = now / before - 1
    if abs(part) < 0.005:
        return "as in"
    return f"{abs(part) * 100:.0f} % {'above' if part > 0 else 'below'}"
