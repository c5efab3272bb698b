"""Compression earns its memory: more work on the same budget than the swap device alone.

The floor is 1.6 and not the 2 that was hoped for: on this machine, whose disk is in its host's
cache, five interleaved repeats gave 1.9 to 2.0 (docs/measuring.md), and a test must not be a coin.
"""

from __future__ import annotations

import pytest

from benchmarks.compression import Arms, measure

pytestmark = pytest.mark.kernel

FLOOR = 1.6


def earns(arms: Arms) -> bool:
    """Every run kept its budget, and compression did enough more."""
    return all(run.valid for run in arms.runs) and arms.ratio >= FLOOR


def test_compressible_pages_earn_operations_and_others_do_not() -> None:
    arms = measure(repeats=5, ratio=3.0)
    assert earns(arms), (arms.ratio, arms.runs)
    incompressible = measure(repeats=1, ratio=1.0)
    assert not earns(incompressible), (incompressible.ratio, incompressible.runs)
