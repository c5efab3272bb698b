"""DAMON in a box: a kernel that has it free, whatever this host's does with its own."""

from __future__ import annotations

import pytest

from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.units import MIB
from tests.box.conftest import User

pytestmark = pytest.mark.box


def test_damon_finds_the_working_set_by_a_user_without_root(user: User) -> None:
    done = user.run("up", "--box", "active-damon", timeout=500)
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0 and "Verdict: passed" in said, said
    (recording,) = user.folder.glob("active-damon.memlab/runs/*/recording.sqlite")
    with Derived.open(recording) as run:
        found = run.series(Entity.VM, "active_damon", "staircase").known
        assert min(found) <= 40 * MIB and max(found) >= 184 * MIB
