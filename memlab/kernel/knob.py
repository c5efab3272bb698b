"""Knobs as the clean-up sees them: what they are called, and in which order they go back.

A knob is any file of the kernel whose value can be read and written. Two orders matter:
max_page_sharing and merge_across_nodes give EBUSY while anything is merged, so they follow the
pruning at once; and an advisor owns pages_to_scan while it is on, so `none` is written before
pages_to_scan and any other advisor after it (mm/ksm.c, since 6.8).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from memlab.kernel.damon import list_path as damon_list
from memlab.kernel.entries import Knob
from memlab.kernel.files import Roots, read_text, same_value

_NEED_NO_MERGES: Final = frozenset({"max_page_sharing", "merge_across_nodes"})


def label(path: Path, roots: Roots) -> str:
    """A short name for people: `ksm/run`, `zswap/enabled`, else the whole path."""
    damon = damon_list(roots).parent
    for name, folder in (("ksm", roots.ksm), ("zswap", roots.zswap), ("damon", damon)):
        if path.parent == folder:
            return f"{name}/{path.name}"
    return str(path)


def in_restoring_order(knobs: Iterable[Knob], roots: Roots) -> list[Knob]:
    """The knobs in the order in which they can go back (see above); else the last one first."""
    latest_first = list(knobs)[::-1]  # sorting is stable
    return sorted(latest_first, key=lambda knob: _rank(knob, roots))


def is_managed(path: Path, roots: Roots) -> bool:
    """Whether the kernel's own advisor sets this knob now, so that its value is nobody's."""
    if path != roots.ksm / "pages_to_scan":
        return False
    mode = read_text(roots.ksm / "advisor_mode")
    return mode is not None and not same_value(mode, "none")


def _rank(knob: Knob, roots: Roots) -> int:
    path = knob.path
    if path.parent == roots.zswap:
        return 6
    if path.parent != roots.ksm:
        return 3
    if path.name in _NEED_NO_MERGES:
        return 0
    if path.name == "advisor_mode":
        return 1 if same_value(knob.before, "none") else 4
    return 5 if path.name == "run" else 2
