"""Transparent huge pages: the host's knobs.

`/sys/kernel/mm/transparent_hugepage/*` (2.6.38). KSM and swap split huge pages; a lab that wants
to see single pages move leaves `enabled` at madvise or never, which is where most hosts have it.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from memlab.kernel.files import HOST, Roots, chosen, read_int, read_text

KNOBS: Final = (
    "enabled",
    "defrag",
    "shmem_enabled",
    "use_zero_page",
    "shrink_underused",  # since 6.13
    "khugepaged/defrag",
    "khugepaged/pages_to_scan",
    "khugepaged/scan_sleep_millisecs",
    "khugepaged/alloc_sleep_millisecs",
    "khugepaged/max_ptes_none",
    "khugepaged/max_ptes_swap",
    "khugepaged/max_ptes_shared",
)
"""Names below the directory that can be written, where this kernel has them."""


class Mode(StrEnum):
    """Where the kernel makes huge pages by itself."""

    ALWAYS = "always"
    MADVISE = "madvise"
    NEVER = "never"


def directory(roots: Roots = HOST) -> Path:
    """Where the knobs are."""
    return roots.sys / "kernel/mm/transparent_hugepage"


def knobs(roots: Roots = HOST) -> dict[str, str]:
    """The knobs that this kernel has and the values chosen (`madvise`, `511`); {} without THP."""
    found = {name: read_text(directory(roots) / name) for name in KNOBS}
    return {name: chosen(text) for name, text in found.items() if text is not None}


def mode(roots: Roots = HOST) -> Mode | None:
    """The chosen mode of `enabled`; None on a kernel without huge pages."""
    text = read_text(directory(roots) / "enabled")
    return None if text is None else Mode(chosen(text))


def huge_page_size(roots: Roots = HOST) -> int | None:
    """Bytes of a huge page, 2 MiB on x86 (`hpage_pmd_size`, 3.2…); None without huge pages."""
    return read_int(directory(roots) / "hpage_pmd_size")
