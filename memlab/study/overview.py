"""Several labs side by side: the work of each policy in each, and its geometric mean over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memlab.study.cells import notes, percent, scaled, with_spread
from memlab.study.compare import Comparison, Row, geometric_mean
from memlab.study.table import remarks


def overview(found: Mapping[str, Comparison]) -> Iterator[str]:
    """A table in Markdown, line by line: a row for each policy, a column for each lab by its name.

    Bold is the most work of a column, as it is shown. A policy has a mean if it has work in all
    labs; of one lab there is none. Below the table stands what else has to be known of a row.
    """
    means = {policy: _mean(policy, found) for policy in _policies(found)}
    highest = max((mean for mean in means.values() if mean is not None), default=None)
    several = len(found) > 1
    columns = [*found, "geometric mean"] if several else [*found]
    yield f"| policy | {' | '.join(columns)} |"
    yield "|---|" + "---:|" * len(columns)
    for policy, mean in means.items():
        cells = [_cell(_row(policy, one), one) for one in found.values()]
        if several:
            cells.append(_bold(percent(mean), percent(mean) == percent(highest)))
        yield f"| {policy} | {' | '.join(cells)} |"
    yield ""
    yield from _below(found)


def _policies(found: Mapping[str, Comparison]) -> list[str]:
    return list(dict.fromkeys(row.policy for one in found.values() for row in one.rows))


def _row(policy: str, one: Comparison) -> Row | None:
    return next((row for row in one.rows if row.policy == policy), None)


def _cell(row: Row | None, one: Comparison) -> str:
    if row is None:
        return "–"
    most = one.best is not None and percent(row.work.middle) == percent(one.best.work.middle)
    return _bold(with_spread(row.work, percent), most)


def _bold(text: str, on: bool) -> str:
    return f"**{text}**" if on and text != "–" else text


def _mean(policy: str, found: Mapping[str, Comparison]) -> float | None:
    rows = [_row(policy, one) for one in found.values()]
    work = [0.0 if row is None else row.work.middle or 0.0 for row in rows]
    return geometric_mean(work)


def _below(found: Mapping[str, Comparison]) -> Iterator[str]:
    for lab, one in found.items():
        counts = [row.runs for row in one.rows]
        least, most = min(counts), max(counts)
        runs = f"{least}" if least == most else f"{least}–{most}"
        void = one.reference.void
        made = f"{runs} {'run' if most == 1 else 'runs'} of each, {scaled(one.scales)}"
        told = (
            made,
            *([f"{one.against} is void: {void}"] if void else ()),
            *(f"{row.policy}: {words}" for row in one.rows if (words := notes(row))),
            *remarks(one),
        )
        yield f"- {lab}: {'; '.join(told)}."
