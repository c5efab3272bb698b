"""Every exercise's reference solution, really run; the others run on kept recordings (unit)."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.cli.exercise_authors import run_play
from memlab.exercises.course import Lesson, course
from memlab.exercises.verify import Trial, attempt

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("lesson", course(), ids=lambda one: one.name)
def test_the_reference_solution_passes(lesson: Lesson, tmp_path: Path) -> None:
    tried = attempt(lesson, Trial.REFERENCE, tmp_path / lesson.name, run_play)
    assert tried.fault == ""
