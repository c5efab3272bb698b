"""The table at full size in docs/policies.md is of the figures that were kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.policies import UNSCALED, there
from memlab.control.policies import POLICIES
from memlab.study import kept
from memlab.study.cells import percent

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "benchmarks" / "measured"


def documented() -> dict[str, str]:
    """Work at full size by policy, as the page has it."""
    page = ROOT.joinpath("docs", "policies.md").read_text("utf-8")
    section = page.partition("### At full size")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    return {row[1].strip(): row[2].strip(" *").replace(" %", "%") for row in rows}


def test_the_page_tells_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [kept.read(path.parent) for path in MEASURED.glob(f"*/*/{kept.KEPT}")]
    (version,) = {run.memlab for run in found if run is not None}
    monkeypatch.setattr("memlab.study.runs.version", lambda: version)
    (lab,) = UNSCALED.values()
    table = there(lab, list(POLICIES), 1, MEASURED)
    assert table is not None, "the lab file is another one than that which was run"
    assert table.counts, "a void run"
    assert documented() == {row.policy: percent(row.work.middle) for row in table.rows}
