"""Handing in and marking: what was changed, copied or broken is one line, and the rest goes on."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
import zipfile
from pathlib import Path

import pytest

from memlab.exercises.classpage import class_page
from memlab.exercises.facts import SEAL, seal
from memlab.exercises.folder import Folder
from memlab.exercises.grade import Row, csv_text, grade
from memlab.exercises.submission import SUFFIX, SubmissionError, opened, pack
from tests.exercise_runs import AUTHOR, Trial, done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return done(tmp_path_factory.mktemp("ada"))


@pytest.fixture
def folder(finished: Folder, tmp_path: Path) -> Folder:
    shutil.copytree(finished.path, tmp_path / "ada")
    return Folder.open(tmp_path / "ada")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    made = tmp_path / "class"
    made.mkdir()
    return made


def submit(folder: Folder, box: Path, name: str) -> Path:
    return pack(Folder.open(folder.path), box / f"{name}{SUFFIX}")


def only(box: Path) -> Row:
    (row,) = grade(box)
    return row


def test_a_good_one_passes(folder: Folder, box: Path) -> None:
    submit(folder, box, "ada")
    row = only(box)
    assert (row.student, row.exercise, row.result) == (AUTHOR, "02-free-list", "passed")
    assert row.remarks == () and row.mark is not None and row.mark.points == (6, 6)
    (cells,) = csv.DictReader(io.StringIO(csv_text([row])))
    assert cells["passed"] == "6" and cells["kernel"] and cells["prediction_errors"]


def test_a_wrong_one_fails_with_the_name_of_its_check(tmp_path: Path, box: Path) -> None:
    submit(done(tmp_path / "eve", trial=Trial.WRONG), box, "eve")
    row = only(box)
    assert row.result == "failed" and row.failed() == ["the balloon gives it back"]


def test_an_archive_that_was_changed(folder: Folder, box: Path, tmp_path: Path) -> None:
    good = submit(folder, tmp_path, "good")
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(box / f"bad{SUFFIX}", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b"160MiB", b"150MiB") if "answers" in name else data)
    assert only(box).result == "void"
    assert only(box).remarks == ("answers.yaml is not as it was handed in",)


def test_a_recording_that_was_changed_after_its_run(folder: Folder, box: Path) -> None:
    (recording,) = folder.recordings().values()
    connection = sqlite3.connect(recording)
    connection.execute("UPDATE vm_fast SET usage = usage / 2")
    connection.commit()
    connection.close()
    submit(folder, box, "forged")
    row = only(box)
    assert row.result == "void" and row.remarks == (
        "recording 1-run: it was changed after its run",
    )


def test_a_recording_without_a_seal(folder: Folder, box: Path) -> None:
    (recording,) = folder.recordings().values()
    recording.with_name(SEAL).unlink()
    submit(folder, box, "unsealed")
    assert "it has no seal" in only(box).remarks[0]


def test_somebody_elses_recording(folder: Folder, box: Path) -> None:
    """Bob copies Ada's folder and writes his name over hers; even a new seal does not help."""
    path = folder.path / "answers.yaml"
    path.write_text(path.read_text("utf-8").replace(AUTHOR, "Bob"), "utf-8")
    bob = Folder.open(folder.path)
    (recording,) = bob.recordings().values()
    seal(recording, "Bob", bob.seed)
    submit(bob, box, "bob")
    row = only(box)
    assert row.student == "Bob" and row.result == "void"
    assert row.remarks == (f"recording 1-run: it was made for {AUTHOR}",)


def test_no_code_runs_that_a_recording_names(folder: Folder, box: Path, tmp_path: Path) -> None:
    """A lab may name a policy of its own; grading must not load it."""
    ran = tmp_path / "ran"
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(ran)!r}, 'w')\nclass Evil:\n    def decide(self, view): ...\n")
    (recording,) = folder.recordings().values()
    connection = sqlite3.connect(recording)
    (source,) = connection.execute("SELECT value FROM meta WHERE key = 'source'").fetchone()
    source = source.replace("policy: static", f"policy: {evil}:Evil")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'source'", (source,))
    connection.commit()
    connection.close()
    seal(recording, AUTHOR, folder.seed)
    submit(folder, box, "evil")
    row = only(box)
    assert row.result == "failed" and row.failed() == ["the lab is the exercise's"]
    assert evil.name in source and not ran.exists()


def test_one_run_handed_in_twice_is_marked_in_both(folder: Folder, box: Path) -> None:
    first, second = submit(folder, box, "a"), submit(folder, box, "b")
    rows = grade(box)
    assert [row.remarks for row in rows] == [
        (f"the same run is in {second.name}",),
        (f"the same run is in {first.name}",),
    ]
    assert "somebody else has handed in" in class_page(rows)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04garbage", b"\x00" * 100, b"<html>"])
def test_an_unreadable_file_is_one_line(data: bytes, folder: Folder, box: Path) -> None:
    (box / f"x{SUFFIX}").write_bytes(data)
    submit(folder, box, "ada")
    rows = grade(box)
    assert [row.result for row in rows] == ["passed", "void"] and rows[1].remarks
    text = csv_text(rows)
    assert len(text.splitlines()) == 3


def test_every_cut_of_a_submission_is_one_line(folder: Folder, box: Path) -> None:
    whole = submit(folder, box, "whole").read_bytes()
    for part in range(1, 20):
        (box / f"cut-{part:02}{SUFFIX}").write_bytes(whole[: len(whole) * part // 20])
    rows = grade(box)
    assert [row.result for row in rows] == ["void"] * 19 + ["passed"]


def test_an_archive_of_a_stranger_stays_where_it_is(box: Path, tmp_path: Path) -> None:
    path = box / f"evil{SUFFIX}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("submission.json", json.dumps({"files": {}, "student": "=1+1"}))
        archive.writestr("../../escaped.sqlite", "x")
        archive.writestr("runs/../../1-x.sqlite", "x")
    before = sorted(tmp_path.rglob("*"))
    row = only(box)
    assert row.result == "void" and sorted(tmp_path.rglob("*")) == before
    assert csv_text([row]).splitlines()[1].split(",")[1] == "'=1+1"


def test_an_archive_that_would_unpack_to_gigabytes_is_refused(box: Path) -> None:
    path = box / f"bomb{SUFFIX}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"runs/1-{number}.sqlite", b"\0" * (60 * 1024**2))
    with pytest.raises(SubmissionError, match="too large"), opened(path):
        raise AssertionError


def test_the_class_page_escapes_everything(box: Path) -> None:
    rows = [Row("x", "<script>alert(1)</script>", "02-free-list", remarks=("<b>",))]
    text = class_page(rows)
    assert "<script" not in text and "&lt;script&gt;" in text
