"""The report in a real browser: it is drawn, it is silent, it asks for nothing, nothing breaks out.

Run with `scripts/test browser`; needs chromium.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.report.html import page
from tests.browser.chromium import Tab, tab
from tests.recordings import build
from tests.unit.fake_run import squeeze
from tests.unit.test_html import HOSTILE, hostile

pytestmark = pytest.mark.browser

READY = "document.documentElement.dataset.ready === 'yes'"
DRAWN = "document.querySelectorAll('.plot.live canvas').length"
ALL = "document.querySelectorAll('figure[data-chart]').length"
# How many different colours a chart's canvas has: one that was not drawn has one.
COLOURS = """(() => {
  const canvas = document.querySelector('.plot.live canvas');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
  return seen.size;
})()"""
MAIN = "document.querySelector('figure.wide .plot')"


@pytest.fixture
def browser() -> Iterator[Tab]:
    with tab() as found:
        yield found


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(page(squeeze()), encoding="utf-8")
    return path


def shown(browser: Tab, path: Path, *, before: str = "") -> None:
    """Open the page in a window that is higher than it, so that every chart is in sight."""
    browser.open(path, before=before, height=9000)
    browser.until(READY)
    browser.until(f"{DRAWN} === {ALL}")


def test_every_chart_is_drawn_in_silence_and_without_a_network(browser: Tab, report: Path) -> None:
    shown(browser, report)
    assert browser.value(ALL) == 1 + 1 + 4 + 4 * 6
    assert browser.value(COLOURS) > 20
    assert browser.said == []
    assert browser.asked == [report.as_uri()]


def test_a_recording_from_a_file_is_drawn(browser: Tab, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with Derived.open(build(tmp_path)) as source:
        path.write_text(page(source), encoding="utf-8")
    shown(browser, path)
    assert browser.value(COLOURS) > 20
    assert browser.said == []


def test_a_browser_without_decompression_draws_the_same(browser: Tab, report: Path) -> None:
    picture = f"{MAIN}.querySelector('canvas').toDataURL()"
    shown(browser, report)
    new = browser.value(picture)
    shown(browser, report, before="delete window.DecompressionStream")
    assert browser.value("typeof DecompressionStream") == "undefined"
    assert browser.value(picture) == new
    assert browser.said == []


def test_pointing_shows_the_figures_of_that_moment_in_all_charts(
    browser: Tab, report: Path
) -> None:
    shown(browser, report)
    run = squeeze()
    where = browser.value(
        f"(() => {{ const r = {MAIN}.querySelector('.u-over').getBoundingClientRect();"
        " return [r.left + r.width * 20 / 45, r.top + r.height / 2]; })()"
    )
    browser.move(*where)
    browser.until("document.getElementById('pointer').classList.contains('on')")
    assert browser.value("document.getElementById('pointer').textContent") == "figures at 20.0 s"
    legends = browser.value(
        "[...document.querySelectorAll('article')].map(a => a.querySelectorAll('figure')[2]"
        ".querySelector('b').textContent)"
    )
    private = [run.waves[Entity.VM, "private", vm](20.0) for vm in run.names]
    assert legends == [f"{(value or 0) / 2**20:.1f}" for value in private]


def test_zooming_one_chart_zooms_all(browser: Tab, report: Path) -> None:
    shown(browser, report)
    left, top, width = browser.value(
        f"(() => {{ const r = {MAIN}.querySelector('.u-over').getBoundingClientRect();"
        " return [r.left, r.top + 40, r.width]; })()"
    )
    second = "document.querySelectorAll('.plot.live canvas')[5].toDataURL()"
    before = browser.value(second)
    for kind, part in (("mousePressed", 0.2), ("mouseMoved", 0.5), ("mouseReleased", 0.5)):
        browser.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=left + width * part,
            y=top,
            button="left",
            buttons=1,
            clickCount=1,
        )
    browser.until(f"{second} !== {before!r}")
    assert browser.said == []


def test_decisions_are_filtered_by_mechanism_vm_and_words(browser: Tab, report: Path) -> None:
    shown(browser, report)
    visible = "document.querySelectorAll('#actions tbody tr:not([hidden])').length"
    assert browser.value(visible) == 13
    browser.value("document.querySelector('[data-mechanism=balloon]').click()")
    assert browser.value(visible) == 6
    browser.value(
        "(() => { const s = document.querySelector('#filters select'); s.value = 'web-1';"
        " s.dispatchEvent(new Event('change')); })()"
    )
    assert browser.value(visible) == 1
    browser.value(
        "(() => { const s = document.querySelector('#filters input'); s.value = 'no such words';"
        " s.dispatchEvent(new Event('input')); })()"
    )
    assert browser.value(visible) == 0


def test_light_and_dark_redraw_the_charts(browser: Tab, report: Path) -> None:
    shown(browser, report)
    picture = f"{MAIN}.querySelector('canvas').toDataURL()"
    before = browser.value(picture)
    browser.value("document.getElementById('theme').click()")
    browser.until(f"{picture} !== {before!r}")
    assert browser.value("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(20, 23, 27)"
    )


def test_without_scripts_the_stills_and_tables_are_there(browser: Tab, report: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(report, height=9000)
    root = browser.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
    stills = browser.call("DOM.querySelectorAll", nodeId=root, selector="svg.still")["nodeIds"]
    assert len(stills) == 30
    for part, least in (("path", 60), ("line.grid", 90), ("text", 200), ("line.measured", 30)):
        found = browser.call("DOM.querySelectorAll", nodeId=root, selector=f"svg.still > {part}")
        assert len(found["nodeIds"]) >= least, part
    bars = browser.call("DOM.querySelectorAll", nodeId=root, selector=".verdict svg > line.budget")
    assert len(bars["nodeIds"]) == 9
    for still in (stills[0], stills[-1]):
        box = browser.call("DOM.getBoxModel", nodeId=still)["model"]
        assert box["width"] > 200
        assert box["height"] > 80


def test_a_hostile_recording_runs_nothing(browser: Tab, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(hostile()), encoding="utf-8")
    shown(browser, path)
    assert browser.value("document.title").startswith(HOSTILE)
    assert browser.value("document.images.length") == 0
    assert browser.value("document.scripts.length") == 3
    assert browser.said == []
    assert browser.asked == [path.as_uri()]


def test_a_script_that_got_in_would_not_run(browser: Tab, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    text = page(squeeze()).replace("<body>", "<body><script>document.title = 'broken'</script>")
    path.write_text(text, encoding="utf-8")
    shown(browser, path)
    assert browser.value("document.title") != "broken"
    assert any("Content Security Policy" in said for said in browser.said)


def test_no_text_is_wider_than_the_page(browser: Tab, report: Path) -> None:
    for width in (1400, 1000, 420):
        browser.open(report, width=width, height=9000)
        browser.until(READY)
        assert browser.value("document.documentElement.scrollWidth") <= width
