"""A lab that the guard has ended fails for the guard's reason, not for what was missing then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from memlab.errors import HostError
from memlab.kernel.owner import Owner
from memlab.lab.endings import unless_aborted


@dataclass
class Guard:
    reason: str | None

    def aborted(self) -> str | None:
        return self.reason


@dataclass
class Owned:
    guard: Guard


def test_what_failed_because_the_guard_gave_the_host_back_is_the_guards() -> None:
    heard: list[str] = []
    owner = Owned(Guard("overloaded"))
    with unless_aborted(cast("Owner", owner), heard.append):
        raise HostError("memory.limit_in_bytes: No such file or directory")
    assert heard == ["overloaded"]


def test_what_failed_beside_a_guard_that_is_well_is_told() -> None:
    heard: list[str] = []
    owner = Owned(Guard(None))
    with (
        pytest.raises(HostError, match="no such"),
        unless_aborted(cast("Owner", owner), heard.append),
    ):
        raise HostError("no such file")
    assert heard == []
