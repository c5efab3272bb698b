"""The course, its three solutions on kept recordings, and what a student does, without a kernel."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from memlab.cli.main import root
from memlab.errors import LabFileError, UsageError
from memlab.exercises.answers import Answers, load_answers
from memlab.exercises.course import TEMPLATE, Lesson, after, course, find
from memlab.exercises.folder import Folder
from memlab.exercises.judge import Case, Finding, Result, judge
from memlab.exercises.marks import changed, mark
from memlab.exercises.play import plays, sets_of
from memlab.exercises.soundness import faults_of
from memlab.exercises.spec import Check, Language, Stage
from memlab.exercises.student import numbers_of, rendered, seed_of
from memlab.kernel import probe as probe_module
from memlab.kernel import qemu as qemu_module
from memlab.kernel.finding import Feature
from memlab.kernel.finding import Finding as Finding_
from memlab.lab.load import loads
from memlab.record.derive import Derived
from memlab.report.html import page
from tests.exercise_runs import AUTHOR, Trial, done, tried
from tests.unit.fake_run import FakeRun

LESSONS = course()


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda one: one.name)
def test_an_exercise_is_sound(lesson: Lesson) -> None:
    assert faults_of(lesson) == []
    seconds = 0.0
    for stage in lesson.exercise.stages:
        numbers = numbers_of(lesson.exercise, 1)
        for run in stage.runs:
            text = rendered(lesson.lab(stage.lab), numbers)
            sets = sets_of(stage, run, numbers)
            seconds += loads(text, name=str(lesson.folder / stage.lab), sets=sets).lab.duration
    assert seconds <= 40


@pytest.mark.parametrize("trial", Trial)
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda one: one.name)
def test_solutions_come_out_as_meant(lesson: Lesson, trial: Trial, tmp_path: Path) -> None:
    assert tried(lesson, trial, tmp_path).fault == ""


def test_the_course_is_in_order_and_found_by_any_name() -> None:
    numbers = [int(lesson.number) for lesson in LESSONS]
    assert numbers == sorted(set(numbers)) and set(numbers) <= set(range(1, 13))
    assert find("3").name == find("sharing").name == find("03-sharing").name == "03-sharing"
    assert after(LESSONS[0]) == LESSONS[1] and after(LESSONS[-1]) is None
    with pytest.raises(UsageError) as caught:
        find("sharin")
    assert "did you mean" in caught.value.hint


def test_the_template_is_sound() -> None:
    assert faults_of(Lesson(TEMPLATE)) == []


def test_numbers_are_the_students_own_and_stay() -> None:
    exercise = find("03").exercise
    seeds = {seed_of(f"student {n}", "03-sharing") for n in range(50)}
    assert len(seeds) == 50
    drawn = {tuple(numbers_of(exercise, seed).items())[:3] for seed in seeds}
    assert len(drawn) > 15
    assert seed_of(" Ada  Lovelace ", "03-sharing") == seed_of("ada lovelace", "03-sharing")
    assert seed_of("Ada Lovelace", "02-free-list") != seed_of("Ada Lovelace", "03-sharing")


def start(place: Path, name: str = "02", language: Language = Language.ENGLISH) -> Folder:
    lesson = find(name)
    return Folder.start(lesson, place / lesson.name, AUTHOR, language)


def test_a_folder_has_handout_lab_and_questions_in_the_language(tmp_path: Path) -> None:
    folder = start(tmp_path, language=Language.CHINESE)
    size = folder.numbers["size"]
    assert size in (folder.path / "README.md").read_text("utf-8")
    assert "幽灵" in (folder.path / "README.md").read_text("utf-8")
    assert "客户机" in (folder.path / "answers.yaml").read_text("utf-8")
    assert "{{" not in "".join(path.read_text("utf-8") for path in folder.path.iterdir())
    assert loads((folder.path / "lab.memlab.yaml").read_text("utf-8")).lab.seed == folder.seed


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    start(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        start(tmp_path)


def test_predictions_come_before_the_run(tmp_path: Path) -> None:
    folder = start(tmp_path)
    with pytest.raises(UsageError, match="predict first: held"):
        plays(folder, 1)
    assert not (folder.path / "runs").exists()


def test_what_is_run_is_the_students_lab_with_the_facts(tmp_path: Path) -> None:
    folder = start(tmp_path)
    write(folder, "held:", "held: 100MiB")
    (play,) = plays(Folder.open(folder.path), 1)
    facts = play.loaded().notes["exercise"]
    assert facts["student"] == AUTHOR and facts["exercise"] == "02-free-list"
    assert facts["predictions"][0]["given"] == "100MiB"


def write(folder: Folder, old: str, new: str, file: str = "answers.yaml") -> None:
    path = folder.path / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_every_fault_of_the_answers_has_its_line(tmp_path: Path) -> None:
    folder = start(tmp_path)
    write(folder, "held:", "held: 100MB")
    write(folder, "free-at-18s:", "free-at-18s: much")
    write(folder, "who-knows:", "who-knows: me\n  more: 1")
    with pytest.raises(LabFileError) as caught:
        load_answers(folder.path, folder.lesson.exercise)
    faults = caught.value.faults
    assert [fault.path for fault in faults] == [
        *("predictions.held", "answers.free-at-18s", "answers.who-knows", "answers.more"),
    ]
    assert all(fault.line for fault in faults) and "100MiB" in faults[0].fix


def test_a_prediction_changed_after_the_run_does_not_count(tmp_path: Path) -> None:
    folder = done(tmp_path)
    write(folder, 'held: "160MiB"', 'held: "150MiB"')
    (late,) = [one for one in findings(folder) if one.name == "predicted before the run"]
    assert late.result is Result.FAILED and "held" in late.say


def findings(folder: Folder) -> list[Finding]:
    again = Folder.open(folder.path)
    marked = mark(again.lesson, again.answers, again.recordings())
    return [one for stage in marked.stages for one in stage.findings]


def test_the_right_figure_is_not_given_away(tmp_path: Path) -> None:
    folder = done(tmp_path)
    text = (folder.path / "answers.yaml").read_text("utf-8")
    line = next(line for line in text.splitlines() if line.startswith("  ghost-at-18s:"))
    write(folder, line, "  ghost-at-18s: 20MiB")
    (found,) = [one for one in findings(folder) if one.name == "the ghost"]
    assert found.result is Result.FAILED
    assert found.expected == "what the run shows" and found.tolerance == "± 5%"
    assert "18.0 s" in found.where or "machine memory" in found.where


def test_a_lab_that_was_changed_elsewhere_is_noticed(tmp_path: Path) -> None:
    folder = done(tmp_path)
    (recording,) = folder.recordings().values()
    with sqlite3.connect(recording) as connection:
        (source,) = connection.execute("SELECT value FROM meta WHERE key = 'source'").fetchone()
        changed = json.dumps(json.loads(source).replace("hold: 5s", "hold: 1s"))
        connection.execute("UPDATE meta SET value = ? WHERE key = 'source'", (changed,))
    connection.close()
    (found,) = [one for one in findings(folder) if one.name == "the lab is the exercise's"]
    assert found.result is Result.FAILED and "vms.guest.workload.args.hold" in found.say


def test_a_file_that_is_handed_out_is_run_and_known_again(tmp_path: Path) -> None:
    lesson = find("09")
    folder = Folder.start(lesson, tmp_path / "x", AUTHOR, Language.ENGLISH)
    assert (folder.path / "order.py").read_text("utf-8") == lesson.lab("order.py")
    write(folder, "class Order:", "class Order:  # mine", "order.py")
    play, *_ = plays(folder, 1, unpredicted=True)
    assert (play.path.parent / "order.py").read_text("utf-8") == folder.lab("order.py")
    told = play.loaded().notes["exercise"]
    run = FakeRun(manifest={"notes": {"exercise": told}, "source": folder.lab("lab.memlab.yaml")})
    (found,) = changed(lesson, lesson.exercise.stages[0], run, folder.numbers)
    assert found.result is Result.FAILED and "order.py" in found.say


def test_what_a_machine_cannot_show_is_inconclusive() -> None:
    check = Check.model_validate(
        {
            "name": "it merges",
            "that": "max(lab.saved_sharing) >= 1MiB",
            "only_if": {"that": "max(host.ksm_scanned) > 0", "say": "KSM did not scan"},
        }
    )
    stage = Stage.model_validate({"title": "one", "checks": [check]})
    nobody = Answers("nobody", "none", Language.ENGLISH)
    (found,) = judge(Case(stage, {}, nobody, {"run": FakeRun()}))
    assert found.result is Result.INCONCLUSIVE and "KSM did not scan" in found.say


def test_a_rate_times_a_duration_is_told_how_slow_the_run_was() -> None:
    check = Check.model_validate({"name": "slow", "that": "11s * {{scale}} == 22s"})
    stage = Stage.model_validate({"title": "one", "checks": [check]})
    nobody = Answers("nobody", "none", Language.ENGLISH)
    for scale, result in ((2.0, Result.PASSED), (1.0, Result.FAILED)):
        run = FakeRun(manifest={"time_scale": scale})
        (found,) = judge(Case(stage, {}, nobody, {"run": run}))
        assert found.result is result


def test_the_report_shows_prediction_and_reality(tmp_path: Path) -> None:
    (recording,) = done(tmp_path).recordings().values()
    with Derived.open(recording) as source:
        text = page(source)
    assert "Prediction and reality" in text and "160MiB" in text


def test_reset_keeps_what_was_there(tmp_path: Path) -> None:
    folder = start(tmp_path)
    write(folder, "balloon: 0MiB", "balloon: 7MiB", "lab.memlab.yaml")
    (kept,) = folder.reset()
    assert kept.name == "lab.memlab.yaml~1" and "7MiB" in kept.read_text("utf-8")
    assert "balloon: 0MiB" in (folder.path / "lab.memlab.yaml").read_text("utf-8")


def invoke(*words: str) -> tuple[int, str]:
    ran = CliRunner().invoke(root, ["exercise", *words], standalone_mode=False)
    if ran.exception is not None:
        raise ran.exception
    return int(ran.return_value or 0), ran.output


def test_a_student_from_start_to_submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("start", "02", "--name", AUTHOR)[0] == 0
    monkeypatch.chdir(tmp_path / "02-free-list")
    status, text = invoke("check")
    assert status == 1 and "write them first: held" in text
    assert "1 of 3" in invoke("hint")[1] and "2 of 3" in invoke("hint")[1]
    with pytest.raises(UsageError, match="not been passed"):
        invoke("solution")
    assert "top of the free list" in invoke("solution", "--show")[1]
    with pytest.raises(UsageError, match="nothing has been run"):
        invoke("submit")
    done(tmp_path / "later")
    monkeypatch.chdir(tmp_path / "later" / "02-free-list")
    status, text = invoke("check")
    assert status == 0 and "predicted 160MiB, measured" in text
    assert json.loads(invoke("check", "-f", "json")[1])["result"] == "passed"
    assert "02-free-list" in invoke("progress")[1]
    assert invoke("next")[0] == 0
    assert (tmp_path / "later" / "03-sharing" / "README.md").exists()
    assert invoke("submit")[0] == 0
    assert list(Path.cwd().glob("*.memlab-submission.zip"))


def test_list_says_what_can_run_here() -> None:
    found = json.loads(invoke("list", "-f", "json")[1])["exercises"]
    assert [one["name"] for one in found] == [lesson.name for lesson in LESSONS]
    assert all(one["runs"] in ("yes", "no", "as root", "perhaps") for one in found)
    assert "三层内存" in invoke("list", "--lang", "zh")[1]


@pytest.fixture
def no_ksm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which all works but page sharing."""
    found = [
        Finding_(one, one is not Feature.KSM, "looked", "seen", "", ("labs",)) for one in Feature
    ]
    monkeypatch.setattr(probe_module, "probe", lambda **_: found)


def line_of(text: str, name: str) -> tuple[str, str]:
    """What the list says of an exercise, and the line below it."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(name))
    return lines[at], lines[at + 1]


@pytest.mark.usefixtures("no_ksm")
@pytest.mark.parametrize("installed", [True, False])
def test_what_cannot_run_says_what_is_missing_and_whether_a_box_would_do(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = Finding_(Feature.QEMU, installed, "looked", "seen")
    monkeypatch.setattr(qemu_module, "probe_qemu", lambda: qemu)
    text = invoke("list")[1]
    line, below = line_of(text, "03-sharing")
    assert " no " in line and "missing: page sharing" in below
    assert ("--box` would do" in below) is installed
    line, below = line_of(text, "01-three-layers")
    assert " yes " in line and "missing" not in below


def test_stages_that_were_given_are_not_judged(tmp_path: Path) -> None:
    folder = start(tmp_path)
    marked = mark(folder.lesson, folder.answers, {}, given=1)
    assert marked.result is Result.PASSED and marked.points == (0, 0)


GUIDE = Path(__file__).parents[2] / "docs" / "exercises.md"


def course_table() -> str:
    rows = [f"| {n.name} | {n.exercise.title.en} | {n.exercise.minutes} |" for n in LESSONS]
    return "\n".join(("| exercise | | minutes |", "|---|---|---:|", *rows))


def test_the_guide_lists_the_course() -> None:
    page = GUIDE.read_text("utf-8")
    head, begin, rest = page.partition("<!-- course -->\n")
    _, end, tail = rest.partition("<!-- end of course -->")
    made = f"{head}{begin}{course_table()}\n{end}{tail}"
    if os.environ.get("MEMLAB_WRITE_DOCS"):
        GUIDE.write_text(made, "utf-8")
    assert GUIDE.read_text("utf-8") == made
