"""A comparison as one HTML file: bars of work with their spread, each VM's part, the whole table.

No script and no network; every text is escaped.
"""

from __future__ import annotations

from importlib.resources import files

from memlab.report.markup import Markup, join, tag, text
from memlab.study.cells import COLUMNS, notes, percent, with_spread
from memlab.study.compare import Comparison, Row, Spread
from memlab.study.table import heading, remarks

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_WIDTH, _LINE, _LEFT, _RIGHT = 900, 30, 130, 190
_OWN_STYLE = """
main{max-width:70rem;margin:0 auto;padding:1rem}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{padding:.3rem .6rem;text-align:right}
tr{border-bottom:1px solid color-mix(in srgb,currentColor 18%,transparent)}
th:first-child,td:first-child,.all td:last-child{text-align:left}
svg{width:100%;height:auto} svg text{font-size:13px;fill:currentColor}
.bar{fill:#3b7dd8;opacity:.75} .bestbar{fill:#2f9e63;opacity:.85}
.whisker{stroke:currentColor;stroke-width:1.5} .grid{stroke:currentColor;opacity:.15}
"""


def page(found: Comparison) -> str:
    """The whole file."""
    style = files("memlab.report").joinpath("page.css").read_text("utf-8") + _OWN_STYLE
    title = f"{found.lab} – policies compared"
    head = join(
        tag("title", title),
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width">'),
        tag("style", Markup(style)),
    )
    best = found.best
    answer = "no run counts" if best is None else f"{best.policy}: {percent(best.work.middle)}"
    body = tag(
        "main",
        tag("h1", f"Which policy gets most work out of {found.lab}?"),
        tag("p", f"{answer} of the work without pressure." if best else answer),
        tag("p", heading(found)),
        *(tag("p", one) for one in remarks(found)),
        tag("h2", "Work of all VMs, median and range over the repeats"),
        _bars(found),
        tag("h2", "Work of each VM"),
        _each(found),
        tag("h2", "All figures"),
        _table(found),
        tag("p", _HOW),
    )
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body>{body}</body></html>\n"


_HOW = text(
    "Work is operations per second in the measured window, relative to the same VM in the run "
    "without pressure. Fair is Jain's index of the VMs' relative work. Saved is the mean over the "
    "window, all mechanisms together. CPU is of ksmd and memlab's own processes, part of one core. "
    "Void runs are left out and named."
)


def _bars(found: Comparison) -> Markup:
    highest = max([1.0, *(row.work.high or 0.0 for row in found.rows)])
    height = _LINE * len(found.rows) + 24

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * value / highest

    grid = []
    for step in range(0, int(highest * 100) + 1, 25):
        at = x(step / 100)
        grid.append(tag("line", x1=at, x2=at, y1=0, y2=height - 20, class_="grid"))
        grid.append(tag("text", f"{step} %", x=at, y=height - 4, text_anchor="middle"))
    rows = [_bar(found, row, number, x(0.0), x) for number, row in enumerate(found.rows)]
    label = "; ".join(f"{row.policy} {percent(row.work.middle)}" for row in found.rows)
    return tag("svg", *grid, *rows, viewBox=f"0 0 {_WIDTH} {height}", role="img", aria_label=label)


def _bar(found: Comparison, row: Row, number: int, left: float, x: object) -> Markup:
    assert callable(x)
    top, work = number * _LINE, row.work
    parts = [tag("text", row.policy, x=left - 8, y=top + 19, text_anchor="end")]
    if work.middle is None or work.low is None or work.high is None:
        parts.append(tag("text", notes(row) or "no figures", x=left + 6, y=top + 19))
        return join(*parts)
    name = "bestbar" if row is found.best else "bar"
    width = x(work.middle) - left
    parts.append(tag("rect", x=left, y=top + 5, width=width, height=_LINE - 10, class_=name))
    middle = top + _LINE / 2
    parts.append(
        tag("line", x1=x(work.low), x2=x(work.high), y1=middle, y2=middle, class_="whisker")
    )
    said = f"{percent(work.middle)} {notes(row)}".strip()
    parts.append(tag("text", said, x=x(work.high) + 8, y=top + 19))
    return join(*parts)


def _each(found: Comparison) -> Markup:
    vms = list(found.rows[0].each) if found.rows else []
    head = tag("tr", tag("th", "policy"), *(tag("th", vm) for vm in vms))
    rows = [
        tag(
            "tr",
            tag("td", row.policy),
            *(tag("td", with_spread(row.each.get(vm, Spread()), percent)) for vm in vms),
        )
        for row in found.rows
    ]
    return tag("table", tag("thead", head), tag("tbody", *rows))


def _table(found: Comparison) -> Markup:
    head = tag(
        "tr", tag("th", "policy"), *(tag("th", column.head) for column in COLUMNS), tag("th")
    )
    rows = [
        tag(
            "tr",
            tag("td", row.policy),
            *(tag("td", column.whole(row)) for column in COLUMNS),
            tag("td", notes(row)),
        )
        for row in found.rows
    ]
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="all")
