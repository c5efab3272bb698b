"""A trial for each test: its folder lies on a disk, where a swap file can be."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.trial import Trial


@pytest.fixture
def trial() -> Iterator[Trial]:
    """The host before, and after the test the same host."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/var/tmp") as folder:
        trial = Trial(Path(folder))
        yield trial
        trial.given_back()
