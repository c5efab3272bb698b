"""The knobs of huge pages."""

from __future__ import annotations

from pathlib import Path

from memlab.kernel import thp
from memlab.kernel.files import Roots
from tests.captured import HYBRID


def test_the_chosen_values_and_their_absence(tmp_path: Path) -> None:
    assert thp.mode(HYBRID) is thp.Mode.MADVISE
    knobs = thp.knobs(HYBRID)
    assert knobs["enabled"] == "madvise" and knobs["khugepaged/max_ptes_none"] == "511"
    assert thp.huge_page_size(HYBRID) == 2 << 20
    nothing = Roots(sys=tmp_path)
    assert thp.mode(nothing) is None and thp.huge_page_size(nothing) is None
    assert thp.knobs(nothing) == {}
