"""Packing loses no more than half a step, keeps absent apart from 0, and is compact."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from memlab.record.columns import Unit
from memlab.report.pack import ABSENT, LARGEST, STEP, deltas, pack, unpack, whole
from memlab.units import MIB, TIB

VALUE = st.none() | st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(st.lists(VALUE, max_size=40), st.sampled_from([1024.0, 1.0, 1e-3]))))
def test_what_is_packed_comes_back_within_half_a_step(
    series: list[tuple[list[float | None], float]],
) -> None:
    back = unpack(pack(series))
    assert [len(values) for values in back] == [len(values) for values, _ in series]
    for (values, step), got in zip(series, back, strict=True):
        for before, after in zip(values, got, strict=True):
            if before is None:
                assert after is None
            else:
                assert after is not None
                assert math.isclose(before, after, abs_tol=step / 2 * 1.0001)


def test_absent_is_not_zero() -> None:
    assert unpack(pack([([0.0, None, 0.0], 1.0)])) == [[0.0, None, 0.0]]


def test_deltas_wrap_instead_of_overflowing() -> None:
    assert list(deltas([LARGEST, ABSENT, LARGEST])) == [LARGEST, 1, -1]


def test_beyond_the_range_is_held_at_its_end_and_not_wrapped() -> None:
    assert whole([4 * TIB], STEP[Unit.BYTES])[0] == LARGEST


def test_every_unit_has_a_step() -> None:
    assert set(STEP) == set(Unit)


def test_steady_series_cost_far_less_than_their_text() -> None:
    values = [256.0 * MIB + 4096 * (i % 7) for i in range(10_000)]
    assert len(pack([(values, STEP[Unit.BYTES])]).text) < 2_000
