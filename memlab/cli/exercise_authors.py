"""`memlab exercise new` and `verify`: for those who write exercises."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli.words import say
from memlab.errors import MemlabError

if TYPE_CHECKING:
    from memlab.exercises.course import Lesson
    from memlab.exercises.play import Play
    from memlab.exercises.verify import Trial


@dataclass(frozen=True, slots=True)
class Wish:
    """Where the recordings of a trial come from, and what else is made of them."""

    recorded: Path | None
    keep_in: Path | None
    box: bool
    pictures: bool


@click.command("new")
@click.argument("folder", type=click.Path(path_type=Path))
def new(folder: Path) -> int:
    """Write a small exercise to begin with into FOLDER; it passes `verify` as it is."""
    from memlab.errors import UsageError
    from memlab.exercises.course import TEMPLATE

    if folder.exists():
        raise UsageError(f"{folder} is there already", hint="name a new folder")
    shutil.copytree(TEMPLATE, folder)
    say(f"wrote {folder}; next: memlab exercise verify {folder}")
    return 0


@click.command("verify")
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="The whole course.")
@click.option("--only", type=click.Choice(["reference", "empty", "wrong"]), help="One trial.")
@click.option("--dry", is_flag=True, help="Look at the files only; nothing is run.")
@click.option("--recorded", type=click.Path(exists=True, path_type=Path), metavar="DIR",
              help="Judge the recordings kept there, run nothing.")  # fmt: skip
@click.option("--keep", "keep_in", type=click.Path(path_type=Path), metavar="DIR",
              help="Keep the recordings there, small.")  # fmt: skip
@click.option("--box", is_flag=True, help="Run them in boxes: no root, no risk for this host.")
@click.option("--pictures", is_flag=True, help="Draw the handout's picture, from the reference.")
def verify(
    names: tuple[str, ...],
    everything: bool,
    only: str | None,
    dry: bool,
    recorded: Path | None,
    keep_in: Path | None,
    box: bool,
    pictures: bool,
) -> int:
    """Try exercises NAMES as their author: the files, and three solutions, each really run.

    The reference solution has to pass, doing nothing must not, and the wrong one has to fail at the
    check, and with the words, that exercise.yaml names. Needs root, but for --dry, --recorded and
    --box.
    """
    from memlab.exercises.course import PICTURE, course, find
    from memlab.exercises.verify import Trial

    lessons = course() if everything else [find(name) for name in names]
    trials = [Trial(only)] if only else list(Trial)
    wish = Wish(recorded, keep_in, box, pictures)
    if not dry and recorded is None and not box:
        from memlab.cli.asroot import become_root

        become_root(["run the exercises' labs, one after the other"])
    failed = 0
    for lesson in lessons:
        found = [one for one in _files(lesson) if not (pictures and PICTURE in one)]
        if not dry and not found:
            tried = (_try(lesson, one, wish) for one in trials)
            found = [fault for fault in tried if fault]
        for fault in found:
            click.echo(f"{lesson.name}: {fault}")
        failed += bool(found)
    say(f"{len(lessons) - failed} of {len(lessons)} are sound")
    return 1 if failed else 0


def _files(lesson: Lesson) -> list[str]:
    from memlab.exercises.soundness import faults_of

    return faults_of(lesson)


def _try(lesson: Lesson, trial: Trial, wish: Wish) -> str:
    """Its fault, or nothing."""
    from memlab.exercises.verify import attempt

    with tempfile.TemporaryDirectory(prefix="memlab-") as made:
        place = Path(made)
        try:
            tried = attempt(
                lesson, trial, place / lesson.name,
                lambda play: _recording(lesson, trial, play, place, wish),
            )  # fmt: skip
        except MemlabError as error:
            return f"{trial}: {error}"
    passed, all_ = tried.mark.points
    say(f"{lesson.name} {trial}: {tried.mark.result}, {passed} of {all_} checks")
    return f"{trial}: {tried.fault}" if tried.fault else ""


def _recording(lesson: Lesson, trial: Trial, play: Play, place: Path, wish: Wish) -> Path:
    """Of one run, made or brought; drawn and kept as is wished."""
    from memlab.exercises.verify import draw, keep, kept

    if wish.recorded is not None:
        found = kept(wish.recorded, lesson, trial, play, place)
    else:
        found = run_in_box(play) if wish.box else run_play(play)
        if wish.keep_in is not None:
            name = f"{play.stage}-{play.run}.sqlite.xz"
            keep(found, wish.keep_in / lesson.name / trial / name)
    if wish.pictures and trial == "reference":
        draw(lesson, play.stage, play.run, found)
    return found


def run_play(play: Play) -> Path:
    """Run it on this host; its recording."""
    from memlab.lab.prepare import prepare
    from memlab.lab.session import Nobody, Session

    outcome = Session(prepare(play.loaded()), Nobody()).run()
    outcome.restored.check()
    return outcome.recording


def run_in_box(play: Play) -> Path:
    """Run it in a box; its recording, which is out here."""
    from memlab.box.lab import Wish as BoxWish
    from memlab.box.lab import run_lab
    from memlab.cli.asroot import HANDED
    from memlab.lab.session import Nobody

    wish = BoxWish(tuple(f"--set={one}" for one in play.sets), "trixie", "auto", None)
    ran = run_lab(play.loaded(), str(play.path), wish, Nobody(), variable=HANDED, say=say)
    if ran.outcome is None:
        raise MemlabError(f"the box gave no outcome, and status {ran.status}", hint="see above")
    return Path(ran.outcome["recording"])


COMMANDS = (new, verify)
