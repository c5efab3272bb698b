"""Skips for what a kernel lacks: no neglect of anybody's, so they are right where all must run."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from memlab.kernel.cgroup import Layout, layout


def lacking(what: str, remedy: str) -> NoReturn:
    """Skip a test, since this kernel does not have `what`; `remedy` is where it has to be run."""
    pytest.skip(f"this kernel lacks {what}; {remedy}")


def kernel() -> tuple[int, int]:
    """The kernel's version: 6, 12."""
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int(minor.partition("-")[0])


SLOTS_IN_STOCK = 0 if kernel() >= (6, 15) else 2 * 64 * (os.cpu_count() or 1)
"""Swap slots that are counted as used though no page is in them: until 6.15 (0ff67f990bd4 "mm,
swap: remove swap slot cache") each CPU takes and returns them 64 at a time."""


RSS_IN_STOCK = 0 if kernel() >= (6, 2) else 64 * 4096
"""Bytes by which statm may lag: until 6.2 each thread counts 64 page faults before it tells."""


def is_v2() -> bool:
    """Whether the memory controller here is cgroup v2's."""
    return layout() is Layout.V2
