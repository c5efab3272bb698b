"""A class on one page: results, which checks were hard, how far predictions were off, copies.

One HTML file without a script and without a network; every text is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from statistics import median
from typing import Final

from memlab.exercises.grade import Row, by_exercise
from memlab.report.markup import Markup, join, tag
from memlab.report.sections import badge, section, table

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
main{max-width:70rem;margin:0 auto;padding:1rem}
.bar{display:inline-block;height:.8em;background:#3b7dd8;vertical-align:baseline}
.remark{color:#b3261e}
"""
_BINS: Final = ((0.1, "within 10 %"), (0.25, "within 25 %"), (0.5, "within 50 %"))
_FAR: Final = "further off"


def class_page(rows: Sequence[Row]) -> str:
    """The whole file."""
    style = files("memlab.report").joinpath("page.css").read_text("utf-8") + _STYLE
    head = join(
        tag("title", "The class"),
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width">'),
        tag("style", Markup(style)),
    )
    void = [row for row in rows if row.mark is None]
    body = tag(
        "main",
        tag("h1", f"{len(rows)} submissions"),
        tag("p", f"{len(void)} of them could not be graded, and say why below.") if void else None,
        *(_exercise(name, found) for name, found in by_exercise(rows)),
        _unknown([row for row in rows if not row.exercise]),
    )
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body>{body}</body></html>\n"


def _exercise(name: str, rows: Sequence[Row]) -> Markup:
    students = [
        (
            row.student,
            badge(row.result, "failed" if row.result in ("void", "to do") else row.result),
            _score(row),
            ", ".join(row.errors()) or "–",
            tag("span", "; ".join(row.remarks), class_="remark") if row.remarks else "",
        )
        for row in sorted(rows, key=lambda row: row.student.casefold())
    ]
    heads = ("student", "result", "checks", "predictions off by", "remarks")
    return section(
        name,
        name,
        _summary(rows),
        _bars("Results", Counter(row.result for row in rows)),
        _bars("Checks that were not passed", Counter(one for row in rows for one in row.failed())),
        _predictions(rows),
        table(heads, students),
    )


def _score(row: Row) -> str:
    passed, checks = row.mark.points if row.mark else (0, 0)
    return f"{passed} of {checks}"


def _summary(rows: Sequence[Row]) -> str:
    parts = [row.mark.points for row in rows if row.mark and row.mark.points[1]]
    middle = median(passed / checks for passed, checks in parts) if parts else 0.0
    copied = sum(any("same run" in one for one in row.remarks) for row in rows)
    words = f"{len(rows)} submissions; median {middle:.0%} of the checks"
    return (
        f"{words}; {copied} with a run that somebody else has handed in too."
        if copied
        else (f"{words}.")
    )


def _predictions(rows: Sequence[Row]) -> Markup | None:
    """How far the class was off, in classes of error, for each prediction."""
    errors: dict[str, list[float]] = {}
    for row in rows:
        for stage in row.mark.stages if row.mark else ():
            for index, guess in enumerate(stage.guesses, 1):
                if guess.error is not None:
                    errors.setdefault(f"{stage.number}.{index}", []).append(guess.error)
    charts = [_bars(f"Prediction {name}", _binned(found)) for name, found in errors.items()]
    return join(*charts) if charts else None


def _binned(errors: Sequence[float]) -> Counter[str]:
    found: Counter[str] = Counter()
    for error in errors:
        found[next((word for limit, word in _BINS if abs(error) <= limit), _FAR)] += 1
    return found


def _bars(title: str, counts: Counter[str]) -> Markup | None:
    if not counts:
        return None
    most = max(counts.values())
    rows = [
        (
            name,
            join(tag("span", class_="bar", style=f"width:{count / most * 16:.1f}em"), f" {count}"),
        )
        for name, count in counts.most_common(20)
    ]
    return join(tag("h3", title), table(("", ""), rows))


def _unknown(rows: Sequence[Row]) -> Markup | None:
    if not rows:
        return None
    found = [(row.file, tag("span", "; ".join(row.remarks), class_="remark")) for row in rows]
    return section("unreadable", "Files that are no submission", "", table(("file", "why"), found))
