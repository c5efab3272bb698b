"""The kept recordings of the course's solutions, as folders of students: for tests without root."""

from __future__ import annotations

from pathlib import Path

from memlab.exercises.course import Lesson, find
from memlab.exercises.folder import RUNS, Folder
from memlab.exercises.play import Play
from memlab.exercises.verify import AUTHOR, Trial, Tried, attempt, kept

KEPT = Path(__file__).parent / "exercises" / "recordings"


def tried(lesson: Lesson, trial: Trial, place: Path) -> Tried:
    """The trial in `place`, judged by its kept recordings."""

    def perform(play: Play) -> Path:
        runs = place / lesson.name / RUNS / f"{play.stage}-{play.run}.memlab" / "runs" / "kept"
        runs.mkdir(parents=True)
        found = kept(KEPT, lesson, trial, play, runs)
        return found.rename(runs / "recording.sqlite")

    return attempt(lesson, trial, place / lesson.name, perform)


def done(place: Path, name: str = "02", trial: Trial = Trial.REFERENCE) -> Folder:
    """A student's folder in which exercise `name` has been done."""
    lesson = find(name)
    tried(lesson, trial, place)
    return Folder.open(place / lesson.name)


__all__ = ["AUTHOR", "KEPT", "Trial", "done", "tried"]
