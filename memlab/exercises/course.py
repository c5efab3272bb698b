"""The exercises that there are: the course that comes with memlab, and an author's own folder."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Final

from memlab.errors import UsageError
from memlab.exercises.spec import FILE, Exercise, Language, load_exercise

COURSE: Final = Path(__file__).parent / "course"
TEMPLATE: Final = Path(__file__).parent / "template"
"""What `memlab exercise new` writes."""
PICTURE: Final = "picture.svg"
_HANDOUTS: Final = {Language.ENGLISH: "README.md", Language.CHINESE: "README.zh-CN.md"}
_SOLUTIONS: Final = {Language.ENGLISH: "solution.md", Language.CHINESE: "solution.zh-CN.md"}


@dataclass(frozen=True)
class Lesson:
    """An exercise and where it lies. Its name, `03-sharing`, is that of its folder."""

    folder: Path

    @property
    def name(self) -> str:
        """As it stands in lists, folders and recordings."""
        return self.folder.name

    @property
    def number(self) -> str:
        """`03`, or nothing for an exercise outside the course."""
        head = self.name.partition("-")[0]
        return head if head.isdigit() else ""

    @property
    def bundled(self) -> bool:
        """Whether it is one of the course, so that its name alone leads to it."""
        return self.folder.parent == COURSE

    @cached_property
    def exercise(self) -> Exercise:
        """What its file says; LabFileError with all that is wrong."""
        return load_exercise(self.folder)

    def handout(self, language: Language) -> str:
        """The handout's text, before the student's numbers are filled in."""
        return self._text(_HANDOUTS, language)

    def solution(self, language: Language) -> str:
        """The text that explains the solution."""
        return self._text(_SOLUTIONS, language)

    @property
    def picture(self) -> str | None:
        """What the report draws of the reference solution, as SVG; None if it was not drawn yet."""
        path = self.folder / PICTURE
        return path.read_text("utf-8") if path.exists() else None

    def lab(self, name: str) -> str:
        """A lab file's text. UsageError if there is none of that name."""
        return self._read(name)

    def _text(self, names: dict[Language, str], language: Language) -> str:
        path = self.folder / names[language]
        return self._read(path.name if path.exists() else names[Language.ENGLISH])

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text("utf-8")
        except OSError as error:
            raise UsageError(
                f"exercise {self.name} has no {name}: {error.strerror}",
                hint="memlab exercise verify names everything that an exercise lacks",
            ) from None


def course() -> tuple[Lesson, ...]:
    """The course, in its order."""
    return tuple(Lesson(path.parent) for path in sorted(COURSE.glob(f"*/{FILE}")))


def find(name: str) -> Lesson:
    """The exercise meant by `3`, `03`, `sharing`, `03-sharing` or a path; UsageError if none is."""
    folder = Path(name)
    if (folder / FILE).is_file():
        return Lesson(folder.resolve())
    known = {lesson.name: lesson for lesson in course()}
    short = {key.partition("-")[2]: lesson for key, lesson in known.items()}
    number = {lesson.number: lesson for lesson in known.values()}
    found = known.get(name) or short.get(name) or number.get(name.zfill(2))
    if found is not None:
        return found
    near = get_close_matches(name, [*known, *short], n=1)
    hint = f"did you mean {near[0]}?" if near else "see memlab exercise list"
    raise UsageError(f"no exercise is called {name!r}", hint=hint)


def after(lesson: Lesson) -> Lesson | None:
    """The exercise that follows in the course, if there is one."""
    later = [one for one in course() if one.name > lesson.name]
    return later[0] if later and lesson.bundled else None
