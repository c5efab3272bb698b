"""Bytes, pages, durations: parse what people write, print what they read.

Sizes need a suffix and are binary, because five tools read a bare number in five ways; the
decimal spellings are refused with the right one named. Output is IEC. Pages are printed only
with the word "pages".
"""

from __future__ import annotations

import re
from typing import Final

PAGE: Final = 4096
KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
TIB: Final = 1024**4

_SIZES: Final = {
    "B": 1,
    **dict.fromkeys(("KiB", "Ki", "K"), KIB),
    **dict.fromkeys(("MiB", "Mi", "M"), MIB),
    **dict.fromkeys(("GiB", "Gi", "G"), GIB),
    **dict.fromkeys(("TiB", "Ti", "T"), TIB),
}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h)")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_IEC: Final = {unit.lower(): f"{unit[0]}iB" for unit in ("KB", "MB", "GB", "TB")}


class UnitError(ValueError):
    """A size or duration that cannot be read; `fix` is the spelling that would be."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def parse_size(text: str) -> int:
    """Bytes written as `512MiB`, `1.5Gi` or `64K` (binary, all three alike).

    Raises UnitError for a bare number and for kB, MB and GB, with the spelling to use.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{text!r} is not a size", "write a number and a unit, such as 256MiB")
    number, unit = match["number"], match["unit"]
    if not unit:
        raise UnitError(f"{text!r} has no unit", f"write {number}MiB (or KiB, GiB)")
    if unit in _SIZES:
        size = round(float(number) * _SIZES[unit])
        if size >= 2**63:
            raise UnitError(f"{text!r} is larger than any machine", "write a smaller size")
        return size
    if right := _IEC.get(unit.lower()):
        raise UnitError(f"{text!r}: {unit} is read as 1000 or as 1024", f"write {number}{right}")
    raise UnitError(f"{text!r}: no unit is called {unit!r}", "use KiB, MiB, GiB or TiB")


def parse_duration(text: str) -> float:
    """Seconds written as `250ms`, `4s` or `1m30s`, as Compose and Go do."""
    stripped = text.strip()
    parts = _DURATION_PART.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        bare = stripped.replace(".", "", 1).isdigit()
        fix = f"write {stripped}s" if bare else "write 4s or 1m30s"
        raise UnitError(f"{text!r} is not a duration", fix)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_percent(text: str) -> float:
    """Fraction 0…1 written as `15%`; more than 100 % is refused."""
    stripped = text.strip()
    try:
        value = float(stripped.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not stripped.endswith("%") or not 0 <= value <= 100:
        raise UnitError(f"{text!r} is not a percentage", "write 0% to 100%")
    return value / 100


def format_size(size: float, *, digits: int = 1) -> str:
    """`1.5 GiB`, `-12.0 MiB`, `0 B`: IEC, one digit after the point from KiB upward."""
    magnitude = abs(size)
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if magnitude >= factor:
            return f"{size / factor:.{digits}f} {unit}"
    return f"{size:.0f} B"


def format_duration(seconds: float) -> str:
    """`850 ns`, `12.5 µs`, `3.2 ms`, `4.0 s`, `2m30s`."""
    if seconds >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}m{rest:02d}s"
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= factor:
            return f"{seconds / factor:.1f} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def pages(size: int) -> int:
    """Whole pages that `size` bytes fill."""
    return size // PAGE
