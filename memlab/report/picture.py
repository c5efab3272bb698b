"""Charts of a run as one SVG file that stands by itself: for handouts and documentation.

The paints are the report's own, taken from its style sheet in its light colours.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

from memlab.record.series import Source
from memlab.report.axis import axis
from memlab.report.charts import Chart, Maker
from memlab.report.markup import Markup, join, tag
from memlab.report.still import still
from memlab.report.window import LAB

_WIDTH: Final = 960
_HEIGHT: Final = {1: 300, 3: 220}
_HEAD: Final = 24
_KEY: Final = 22
_LETTER: Final = 6.2
"""Pixels of one letter of a legend, about."""
_VARIABLE: Final = re.compile(r"--([\w-]+):\s*([^;]+);")
_RULE: Final = re.compile(r"^(?:svg [\w.]+|\.area\.|\.line\.).*$", re.MULTILINE)


def picture(source: Source, vm: str = "") -> str:
    """Where the VMs' memory is, over time; or with `vm` that VM's three layers side by side."""
    maker = Maker(source)
    charts = maker.layers(vm) if vm else (maker.where(),)
    width, height = _WIDTH // len(charts), _HEIGHT[len(charts)]
    drawn = [_chart(source, one, i * width, width, height) for i, one in enumerate(charts)]
    whole = height + _HEAD + _KEY * 2
    svg = tag(
        "svg",
        tag("style", Markup(_style())),
        tag("rect", width=_WIDTH, height=whole, fill="#fff"),
        *drawn,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {whole}",
        font_family="sans-serif",
    )
    return f"{svg}\n"


def _chart(source: Source, chart: Chart, left: int, width: int, height: int) -> Markup:
    end = source.series(LAB, "used").times[-1]
    unit = axis(chart).unit
    inner = still(chart, (width - 8, height), end=end, window=source.window)
    title = tag("text", f"{chart.title}, {unit}", x=8, y=16, style="font-weight:600;fill:#1b1f24")
    body = tag("g", inner, transform=f"translate(0 {_HEAD})")
    # The nested picture has no size of its own: it takes what its view box says.
    sized = Markup(body.replace("<svg ", f'<svg width="{width - 8}" height="{height}" ', 1))
    key = tag("g", _key(chart, width), transform=f"translate(0 {_HEAD + height + 12})")
    return tag("g", title, sized, key, transform=f"translate({left} 0)")


def _key(chart: Chart, width: int) -> Markup:
    parts, x, y = [], 46.0, 0
    for layer in (*chart.areas, *chart.lines):
        if not any(layer.values):
            continue
        room = 18 + len(layer.label) * _LETTER
        if x + room > width:
            x, y = 46.0, y + 16
        shape = "line" if layer in chart.lines else "area"
        mark = f"M{x} {y - 4}h10" if shape == "line" else f"M{x} {y - 8}h10v8h-10Z"
        parts.append(tag("path", class_=f"{shape} {layer.paint}", d=mark))
        parts.append(tag("text", layer.label, x=x + 14, y=y))
        x += room + 8
    return join(*parts)


def _style() -> str:
    """The report's rules for charts, its variables replaced: not every viewer knows those."""
    sheet = files("memlab.report").joinpath("page.css").read_text("utf-8")
    light = sheet.partition("}")[0]
    colours = dict(_VARIABLE.findall(light))
    rules = "\n".join(_RULE.findall(sheet))
    return re.sub(r"var\(--([\w-]+)\)", lambda match: colours.get(match[1], "#000"), rules)
