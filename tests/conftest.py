"""What all tests share.

MEMLAB_NO_SKIP=1 (as in CI) turns every skip into a failure. No example of a property has a time to
keep: that a machine is busy is no fault.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("memlab", deadline=None)
settings.load_profile("memlab")


def pytest_configure() -> None:
    """SIGTERM ends the tests as Ctrl-C does: what the test at hand has started goes with it."""
    tests = os.getpid()

    def end(number: int, _frame: object) -> None:
        if os.getpid() == tests:
            pytest.exit("ended by SIGTERM", returncode=128 + number)
        signal.signal(number, signal.SIG_DFL)  # a child of a test
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test counts as a failed one where everything has to run."""
    report = yield
    if report.skipped and os.environ.get("MEMLAB_NO_SKIP"):
        report.outcome = "failed"
    return report
