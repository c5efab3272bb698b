"""Which runs a comparison makes, in which order, and which it finds made already."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.record.store import Recording
from memlab.study.runs import Job, Runs, jobs
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
    assert Job("./x.py:Mine", 3).folder == "--x-py-Mine-3"
    assert Job("", 1).folder == "reference-1"


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
    first = Runs(lab, (), tmp_path).directory
    assert Runs(lab, ("policy.name=mom", "policy.settings={}"), tmp_path).directory == first
    assert Runs(lab, ("seed=9",), tmp_path).directory != first
    assert Runs(lab, ("policy.time_scale=2",), tmp_path).directory != first


def test_an_edited_file_is_the_next_comparison_s(lab: Path, tmp_path: Path) -> None:
    runs = Runs(lab, (), tmp_path)
    lab.write_text(LAB.replace("count: 2", "count: 1"))
    assert len(runs.loaded(Job("none", 1)).lab.vms) == 2


def record(folder: Path, ended: str | None) -> None:
    folder.mkdir(parents=True)
    manifest = {"vms": [], "window": [0, 1], "lab": "two", "policy": {"name": "mom"}}
    with Recording.create(folder / "recording.sqlite", manifest) as made:
        made.finish({} if ended is None else {"ended": ended, "verdict": {"outcome": "passed"}})


def test_only_what_came_to_its_end_has_been_made(lab: Path, tmp_path: Path) -> None:
    runs, job = Runs(lab, (), tmp_path), Job("mom", 1)
    assert runs.find(job) is None
    place = runs.directory / job.folder / "runs"
    record(place / "1", None)
    record(place / "2", "stopped")
    (place / "3").mkdir()
    (place / "3" / "recording.sqlite").write_bytes(b"")
    assert runs.find(job) is None
    record(place / "4", "finished")
    found = runs.find(job)
    assert found is not None and found.policy == "mom" and not found.void
