"""What formulas are made of: levels, rates, sums over VMs, quantiles.

Each maker returns a formula, a function of one `Moment`; it gives None where something that it
needs is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from memlab.guest.wire import bucket_bounds
from memlab.record.raw import Moment
from memlab.units import PAGE

Formula = Callable[[Moment], float | None]

MICRO: Final = 1e-6
NANO: Final = 1e-9


def level(name: str, scale: float = 1) -> Formula:
    """A raw column as it was read."""

    def formula(moment: Moment) -> float | None:
        value = moment.now(name)
        return None if value is None else value * scale

    return formula


def pages(name: str) -> Formula:
    """A raw column of pages, in bytes."""
    return level(name, PAGE)


def rate(name: str, scale: float = 1, *, clock: str = "") -> Formula:
    """Growth of a cumulative raw column per second since the sample before.

    `clock` is the column with the time in ns at which the counter was published, if it has one;
    a guest that published nothing meanwhile did nothing that shows. A counter that went backwards
    (its VM was started anew) has no rate.
    """

    def formula(moment: Moment) -> float | None:
        now, before = moment.now(name), moment.before(name)
        seconds = (growth(moment, clock, NANO) if clock else None) or moment.seconds
        if now is None or before is None or not seconds or now < before:
            return None
        return (now - before) * scale / seconds

    return formula


def growth(moment: Moment, name: str, scale: float = 1) -> float | None:
    """How much a raw column grew since the sample before."""
    now, before = moment.now(name), moment.before(name)
    return None if now is None or before is None else (now - before) * scale


def either(first: Formula, second: Formula) -> Formula:
    """The first formula; the second where that is absent."""

    def formula(moment: Moment) -> float | None:
        value = first(moment)
        return second(moment) if value is None else value

    return formula


def add(*formulas: Formula) -> Formula:
    """The sum; absent if any part is."""

    def formula(moment: Moment) -> float | None:
        return known_sum([part(moment) for part in formulas], strict=True)

    return formula


def over_vms(table: str, part: Formula, *, strict: bool) -> Formula:
    """The sum over the VMs of a sample; `strict`: absent if one VM's part is."""

    def formula(moment: Moment) -> float | None:
        return known_sum([part(vm) for vm in moment.each(table)], strict=strict)

    return formula


def known_sum(values: Iterable[float | None], *, strict: bool) -> float | None:
    """The sum of what is known; None if nothing is, or `strict` and something is not."""
    values = list(values)
    known = [value for value in values if value is not None]
    return None if not known or (strict and len(known) < len(values)) else sum(known)


def quantile(added: Mapping[int, int], part: float) -> float | None:
    """The latency below which `part` of the operations stayed, seconds; linear in its bucket."""
    rest = part * sum(added.values())
    for bucket in sorted(added):
        if rest <= added[bucket]:
            first, after = bucket_bounds(bucket)
            return (first + (after - first) * rest / added[bucket]) * NANO
        rest -= added[bucket]
    return None
