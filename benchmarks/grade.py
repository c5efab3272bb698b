"""What marking a class costs: `python -m benchmarks.grade [COUNT]`. No root, no kernel.

COUNT submissions (200) of the first exercises are made from the recordings kept with the tests,
each of another student with a seal of its own, and graded. Printed is the CPU time.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from memlab.exercises.classpage import class_page
from memlab.exercises.facts import seal
from memlab.exercises.folder import Folder
from memlab.exercises.grade import csv_text, grade
from memlab.exercises.submission import SUFFIX, pack
from tests.exercise_runs import AUTHOR, done

EXERCISES = ("01", "02", "03")


def handed_in(place: Path, folder: Folder, number: int) -> None:
    """One more submission: the same run, re-labelled, so that it is read to its end."""
    path = place / f"work-{number}"
    shutil.copytree(folder.path, path)
    answers = path / "answers.yaml"
    student = f"Student {number}"
    answers.write_text(answers.read_text("utf-8").replace(AUTHOR, student), "utf-8")
    mine = Folder.open(path)
    (recording,) = mine.recordings().values()
    with sqlite3.connect(recording) as connection:
        (note,) = connection.execute("SELECT value FROM meta WHERE key = 'notes'").fetchone()
        note = note.replace(AUTHOR, student).replace(str(folder.seed), str(mine.seed))
        connection.execute("UPDATE meta SET value = ? WHERE key = 'notes'", (note,))
        connection.execute("UPDATE meta SET value = ? WHERE key = 'run'", (f'"{number}"',))
    connection.close()
    seal(recording, student, mine.seed)
    pack(mine, place / "class" / f"{number:04}{SUFFIX}")
    shutil.rmtree(path)


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(prefix="memlab-") as made:
        place = Path(made)
        (place / "class").mkdir()
        folders = [done(place / name, name) for name in EXERCISES]
        for number in range(count):
            handed_in(place, folders[number % len(folders)], number)
        began = time.process_time()
        rows = grade(place / "class")
        text = csv_text(rows)
        page = class_page(rows)
        spent = time.process_time() - began
    void = sum(row.mark is None for row in rows)
    each = spent / count * 1e3
    print(f"{len(rows)} submissions, {void} void: {spent:.1f} s of CPU, {each:.0f} ms each")
    print(f"CSV of {len(text.splitlines())} lines, page of {len(page) >> 10} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
