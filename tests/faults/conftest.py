"""A trial for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.trial import Trial, on_this_host


@pytest.fixture
def trial() -> Iterator[Trial]:
    with on_this_host("faults-") as trial:
        yield trial
