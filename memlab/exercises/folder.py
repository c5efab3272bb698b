"""A student's folder: the handout, the lab files, answers.yaml, and `runs/` with what was run.

Nothing is hidden in it but `state.json`, which remembers how many hints were read, and whether the
solution was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from memlab.errors import RecordingError, UsageError
from memlab.exercises import answers as answering
from memlab.exercises.answers import Answers
from memlab.exercises.course import PICTURE, Lesson, find
from memlab.exercises.facts import facts_of
from memlab.exercises.spec import Language
from memlab.exercises.student import known_as, numbers_of, rendered, seed_of
from memlab.lab.place import RECORDING, Invoker
from memlab.lab.yamlfile import read
from memlab.record.derive import Derived

RUNS: Final = "runs"
STATE: Final = "state.json"
HANDOUT: Final = "README.md"
GIVEN: Final = "given"


@dataclass(frozen=True)
class Folder:
    """One exercise of one student, on disk."""

    path: Path
    lesson: Lesson

    @classmethod
    def open(cls, path: Path) -> Self:
        """The exercise in `path`; UsageError if it is none, or if the exercise is not known."""
        text = answering.text_of(path)
        name = answering.exercise_named(text, path)
        return cls(path.absolute(), find(name))

    @classmethod
    def start(cls, lesson: Lesson, path: Path, student: str, language: Language) -> Self:
        """Make the folder `path`, with the student's own numbers. UsageError if it is there."""
        name = known_as(student)
        files = handed_out(lesson, name, language)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise UsageError(
                f"{path} is there already",
                hint=f"go on in it (cd {path}), or begin anew: memlab exercise reset",
            ) from None
        for file, text in files.items():
            (path / file).write_text(text, "utf-8")
        Invoker.find().give(path, *path.iterdir())
        return cls(path.absolute(), lesson)

    @cached_property
    def answers(self) -> Answers:
        """What has been written; LabFileError with every fault of answers.yaml."""
        return answering.load_answers(self.path, self.lesson.exercise)

    @property
    def seed(self) -> int:
        """Of this student's copy."""
        return seed_of(self.answers.student, self.lesson.name)

    @property
    def numbers(self) -> Mapping[str, str]:
        """This student's own."""
        return numbers_of(self.lesson.exercise, self.seed)

    def lab(self, name: str) -> str:
        """The text of the student's lab file."""
        try:
            return (self.path / name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"cannot read {self.path / name}: {error}",
                hint="get it back: memlab exercise reset (yours is kept beside it)",
            ) from None

    def recordings(self) -> dict[tuple[int, str], Path]:
        """Of each run that was made to its end, the newest recording, by stage and run."""
        found: dict[tuple[int, str], Path] = {}
        for path in sorted(self.path.glob(f"{RUNS}/*.memlab/runs/*/{RECORDING}")):
            manifest = _manifest(path)
            facts = facts_of(manifest)
            if facts.get("exercise") == self.lesson.name and manifest.get("ended") == "finished":
                found[int(facts["stage"]), str(facts["run"])] = path
        return found

    def reset(self) -> list[Path]:
        """Give back the files as handed out; what was there is kept as `NAME~1`. Its new names."""
        kept = []
        student, language = self._whose()
        for name, text in handed_out(self.lesson, student, language).items():
            path = self.path / name
            if path.exists() and path.read_text("utf-8", errors="replace") != text:
                number = next(n for n in range(1, 1000) if not _kept(path, n).exists())
                kept.append(path.rename(_kept(path, number)))
            path.write_text(text, "utf-8")
        return kept

    def _whose(self) -> tuple[str, Language]:
        tree = read(answering.text_of(self.path)).tree
        language = str(tree.get("language", "en"))
        return known_as(str(tree.get("student") or "")), Language(language)

    @property
    def state(self) -> dict[str, Any]:
        """Hints read, whether the solution was, stages that were given; {} at first."""
        try:
            found = json.loads((self.path / STATE).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def remember(self, **changes: Any) -> None:
        """Change the state."""
        path = self.path / STATE
        path.write_text(json.dumps(self.state | changes) + "\n", "utf-8")
        Invoker.find().give(path)


def handed_out(lesson: Lesson, student: str, language: Language) -> dict[str, str]:
    """The files of a fresh folder, by name, with this student's numbers."""
    exercise = lesson.exercise
    numbers = numbers_of(exercise, seed_of(student, lesson.name))
    labs = dict.fromkeys(stage.lab for stage in exercise.stages)
    # An author's exercise is found again by its path, one of the course by its name.
    named = lesson.name if lesson.bundled else str(lesson.folder)
    drawn = {} if lesson.picture is None else {PICTURE: lesson.picture}
    return {
        **drawn,
        HANDOUT: rendered(lesson.handout(language), numbers),
        **{name: rendered(lesson.lab(name), numbers) for name in labs},
        **{name: lesson.lab(name) for name in exercise.files},
        answering.FILE: answering.fresh(exercise, named, student, language, numbers),
    }


def below(path: Path) -> Iterator[Folder]:
    """Every exercise folder in `path` and right below it, by name."""
    for place in (path, *sorted(one for one in path.iterdir() if one.is_dir())):
        if (place / answering.FILE).is_file():
            yield Folder.open(place)


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        with Derived.open(path, check=False) as source:
            return dict(source.manifest)
    except RecordingError:
        return {}


def _kept(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}~{number}")
