"""Which runs a comparison makes, in which order, and which it finds made already."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from shutil import rmtree

import pytest

import memlab
from memlab.control.policy import Mechanism
from memlab.errors import MemlabError, UsageError
from memlab.lab.load import resolve
from memlab.lab.session import Nobody
from memlab.record.store import Recording
from memlab.study import kept
from memlab.study.code import code
from memlab.study.measured import Measured
from memlab.study.runs import Job, Runs, jobs, perform
from memlab.units import MIB

LAB = """
name: two
host: {memory: 64MiB}
mechanisms: {compression: off, swap: off}
policy: {name: ladder, settings: {swap: 3%}, time_scale: 5}
vms: {a: {count: 2, memory: 48MiB}}
expect: [{name: x, that: "bad_pages() == 0"}]
duration: 5s
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "two.memlab.yaml"
    path.write_text(LAB)
    return path


def test_the_reference_comes_first_and_repeats_take_turns() -> None:
    assert jobs(["a", "b"], 2) == [
        Job("", 1), Job("a", 1), Job("b", 1), Job("a", 2), Job("b", 2),
    ]  # fmt: skip
    assert Job("./x.py:Mine", 3).folder() == "--x-py-Mine-3"
    assert Job("./x.py:Mine", 3).folder("0123456789") == "--x-py-Mine-01234567-3"
    assert Job("", 1).folder() == "reference-1"


def test_a_policy_s_settings_are_for_itself_alone(lab: Path, tmp_path: Path) -> None:
    runs = Runs(lab, (), tmp_path)
    assert runs.loaded(Job("ladder", 1)).lab.policy.settings == {"swap": "3%"}
    other = runs.loaded(Job("mom", 1)).lab.policy
    assert (other.name, other.settings, other.time_scale) == ("mom", {}, 5.0)


def test_the_reference_has_memory_for_all_and_no_policy(lab: Path, tmp_path: Path) -> None:
    reference = Runs(lab, (), tmp_path).loaded(Job("", 1)).lab
    assert reference.policy.name == "none"
    assert reference.host.memory == 96 * MIB + 64 * MIB
    assert reference.seed == Runs(lab, (), tmp_path).lab.lab.seed
    assert not reference.expect


def test_another_lab_is_another_folder_but_another_policy_is_not(lab: Path, tmp_path: Path) -> None:
    lab.write_text(LAB.replace("settings: {swap: 3%}, ", ""))
    first = Runs(lab, (), tmp_path).directory
    assert Runs(lab, ("policy.name=mom",), tmp_path).directory == first
    assert Runs(lab, ("seed=9",), tmp_path).directory != first
    assert Runs(lab, ("policy.time_scale=2",), tmp_path).directory != first
    assert Runs(lab, ("policy.period=2s",), tmp_path).directory != first
    lab.write_text(lab.read_text() + "# a comment changes no run\n")
    assert Runs(lab, (), tmp_path).directory == first


def test_other_settings_of_the_policy_are_another_folder(lab: Path, tmp_path: Path) -> None:
    """Or a comparison of two settings finds the runs of the first one for both."""
    first = Runs(lab, (), tmp_path).directory
    assert Runs(lab, ("policy.settings.swap=50%",), tmp_path).directory != first
    assert Runs(lab, ("policy.settings={}",), tmp_path).directory != first
    assert Runs(lab, (), tmp_path).directory == first
    others = ("policy.name=mom", "policy.settings={}")
    assert Runs(lab, others, tmp_path).directory != first, "ladder runs with other settings there"


def test_settings_of_the_timeline_are_their_policy_s(lab: Path, tmp_path: Path) -> None:
    text = LAB.replace("settings: {swap: 3%}, ", "")
    lab.write_text(text + "timeline: [{at: 1s, set: {policy.settings.swap: 4%}}]\n")
    first = Runs(lab, (), tmp_path)
    lab.write_text(text + "timeline: [{at: 1s, set: {policy.settings.swap: 5%}}]\n")
    assert Runs(lab, (), tmp_path).directory != first.directory
    assert [step.set for step in first.loaded(Job("ladder", 1)).lab.timeline] == [
        {"policy.settings.swap": "4%"}
    ]
    assert not first.loaded(Job("mom", 1)).lab.timeline, "mom has no setting of that name"
    assert not first.loaded(Job("", 1)).lab.timeline


def test_another_version_of_memlab_is_another_folder(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Runs(lab, (), tmp_path).directory
    monkeypatch.setattr("memlab.study.runs.version", lambda: "0.0.0")
    assert Runs(lab, (), tmp_path).directory != first


def test_another_content_of_a_user_s_policy_is_another_run(lab: Path, tmp_path: Path) -> None:
    """The others' runs stay where they are: nobody waits for them once more."""
    mine = lab.with_name("mine.py")
    mine.write_bytes(b"abc")  # SHA-256 of it: ba7816bf…, FIPS 180-2, B.1
    runs, job = Runs(lab, (), tmp_path), Job("./mine.py:Mine", 2)
    assert runs.place(job) == runs.directory / "--mine-py-Mine-ba7816bf-2"
    mine.write_bytes(b"abcd")
    assert runs.place(job) != runs.directory / "--mine-py-Mine-ba7816bf-2"
    assert runs.place(Job("mom", 2)) == runs.directory / "mom-2"
    mine.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        runs.find(job)


def test_the_reference_has_no_step_that_takes_memory_away(lab: Path, tmp_path: Path) -> None:
    lab.write_text(
        LAB
        + """
timeline:
  - {at: 1s, set: {host.memory: 40MiB, vms.a.balloon: 16MiB, vms.a.shares: 5}, mark: squeeze}
  - {at: 2s, set: {vms.a-1.limit: 16MiB, "vms.*.reclaim": 50%, vms.a.cgroup.high: 20MiB}}
  - {when: lab.used > 1MiB, once: off, set: {vms.a-2.balloon: 8MiB}}
  - {at: 3s, set: {vms.a.workload: {name: keyvalue, size: 9MiB}, policy.settings.swap: 5%}}
  - {at: 4s, mark: "on the way … out", verify: on}
"""
    )
    runs = Runs(lab, (), tmp_path)
    first, second, third = runs.loaded(Job("", 1)).lab.timeline
    assert (first.at, first.set, first.mark) == (1.0, {"vms.a.shares": 5}, "squeeze")
    assert (second.at, second.set) == (
        3.0,
        {"vms.a.workload": {"name": "keyvalue", "size": "9MiB"}},
    )
    assert (third.at, third.mark, third.verify) == (4.0, "on the way … out", True)
    assert len(runs.loaded(Job("ladder", 1)).lab.timeline) == 5
    other = runs.loaded(Job("static", 1)).lab.timeline
    assert [len(step.set) for step in other] == [3, 3, 1, 1, 0], "all but the setting of ladder"


def test_idle_tax_can_be_compared_though_it_sets_what_one_policy_has(tmp_path: Path) -> None:
    runs = Runs(resolve("idle-tax"), (), tmp_path)
    for policy in ("", "mom", "esxi6"):
        (step,) = [step for step in runs.loaded(Job(policy, 1)).lab.timeline if step.mark]
        assert not step.set
    steps = runs.loaded(Job("esxi5", 1)).lab.timeline
    assert steps[1].set == {"policy.settings.idle_tax": "75%"}
    plain = Runs(resolve("idle-tax"), ("policy.settings={}",), tmp_path)
    other = Runs(resolve("idle-tax"), ("policy.settings={}", "policy.name=esxi6"), tmp_path)
    assert plain.directory != other.directory, "esxi6 has the step there, and esxi5 has not"


def test_an_edited_file_is_the_next_comparison_s(lab: Path, tmp_path: Path) -> None:
    runs = Runs(lab, (), tmp_path)
    lab.write_text(LAB.replace("count: 2", "count: 1"))
    assert len(runs.loaded(Job("none", 1)).lab.vms) == 2


def record(folder: Path, ended: str | None, *, version: str = "0.3") -> None:
    folder.mkdir(parents=True)
    manifest = {
        "vms": [], "window": [0, 1], "lab": "two", "policy": {"name": "mom"},
        "versions": {"memlab": version},
    }  # fmt: skip
    with Recording.create(folder / "recording.sqlite", manifest) as made:
        made.finish({} if ended is None else {"ended": ended, "verdict": {"outcome": "passed"}})


def test_only_what_came_to_its_end_has_been_made(lab: Path, tmp_path: Path) -> None:
    runs, job = Runs(lab, (), tmp_path), Job("mom", 1)
    assert runs.find(job) is None
    place = runs.directory / "mom-1" / "runs"
    record(place / "1", None)
    record(place / "2", "stopped")
    (place / "3").mkdir()
    (place / "3" / "recording.sqlite").write_bytes(b"")
    assert runs.find(job) is None
    record(place / "4", "finished")
    found = runs.find(job)
    assert found is not None and found.policy == "mom" and not found.void
    assert found.maker == "memlab 0.3", "nobody wrote its code down"
    (runs.directory / "mom-1" / "code").write_text("0123456789ab\n")
    again = runs.find(job)
    assert again is not None and again.maker == "memlab 0.3, code 0123456789ab"


def test_runs_of_other_code_are_used_and_told(lab: Path, tmp_path: Path) -> None:
    """A developer may know that the change is none to these runs; not to say it would be a lie."""
    runs, todo, told = Runs(lab, (), tmp_path), [Job("", 1), Job("mom", 1)], list[str]()
    for job, made_by in zip(todo, ("0123456789ab", code()), strict=True):
        record(runs.place(job) / "runs" / "1", "finished")
        runs.place(job).joinpath("code").write_text(f"{made_by}\n")
    assert [job for job, _ in perform(runs, todo, Nobody(), told.append)] == todo
    assert told[0].startswith("2 of 2 runs are there already")
    assert told[1].startswith("1 of them: not by memlab's code as it is now")
    assert len(told) == 2


def test_figures_outlive_their_recording(lab: Path, tmp_path: Path) -> None:
    runs, todo = Runs(lab, (), tmp_path), [Job("", 1), Job("mom", 1)]
    for job in todo:
        record(runs.place(job) / "runs" / "1", "finished")
        runs.place(job).joinpath("code").write_text("0123456789ab\n")
    before = list(perform(runs, todo, Nobody(), lambda _: None))
    for job in todo:
        rmtree(runs.place(job) / "runs")
        runs.place(job).joinpath("code").unlink()
    told = list[str]()
    assert list(perform(runs, todo, Nobody(), told.append)) == before
    assert told[0].startswith("2 of 2 runs are there already")


def test_every_figure_is_kept(tmp_path: Path) -> None:
    full = Measured(
        "mom", (10.0, 1.0), "two", {"a": 1.5}, {Mechanism.SWAP: 4096.0}, p99=1e-3,
        major_faults=1.0, swapped_in=2.0, stalled=3.0, ksmd_cpu=4.0, observer_cpu=5.0,
        vm_cpu=6.0, used=7.0, actions=8, out_of_memory=9, memlab="0.1", code="c", void="killed",
    )  # fmt: skip
    assert all(getattr(full, one.name) for one in fields(full)), "none is as it is by default"
    kept.write(tmp_path, full)
    assert kept.read(tmp_path) == full
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]


def test_the_recording_speaks_where_it_is_there(lab: Path, tmp_path: Path) -> None:
    """The figures may be of another version of what derives them."""
    runs, job = Runs(lab, (), tmp_path), Job("mom", 1)
    record(runs.place(job) / "runs" / "1", "finished", version="0.4")
    old = Measured("mom", (1.0, 1.0), "two", {}, {}, memlab="0.3")
    kept.write(runs.place(job), old)
    found = runs.find(job)
    assert found is not None and found.memlab == "0.4"
    rmtree(runs.place(job) / "runs")
    assert runs.find(job) == old


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Invalid JSON"),
        ('{"policy": "mom"}', "scales: Field required"),
        ('{"policy": "mom", "scales": [1, 1], "lab": "l", "work": {"a": "x"}, "saved": {}}',
         "work.a: Input should be a valid number"),
    ],
)  # fmt: skip
def test_figures_that_cannot_be_understood(text: str, why: str, tmp_path: Path) -> None:
    tmp_path.joinpath("measured.json").write_text(text)
    with pytest.raises(MemlabError) as caught:
        kept.read(tmp_path)
    assert f"{tmp_path / 'measured.json'} does not hold a run's figures: {why}" in str(caught.value)
    assert caught.value.hint.startswith("remove it")


def test_the_code_is_of_what_makes_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memlab, "__file__", str(tmp_path / "__init__.py"))
    for room in ("control", "cli"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text("1")
    code.cache_clear()
    first = code()
    assert len(first) == 12 and code() == first
    for room, same in (("cli", True), ("control", False)):
        (tmp_path / room / "a.py").write_text("2")
        code.cache_clear()
        assert (code() == first) is same, room
    code.cache_clear()
