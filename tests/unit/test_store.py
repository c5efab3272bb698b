"""Recordings: written by two processes, killed at any moment, opened by anybody."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from memlab.errors import RecordingError
from memlab.record.columns import Tier
from memlab.record.sample import LAB_FAST, Sample, VmInfo
from memlab.record.series import Choice
from memlab.record.store import RECORDING_NAME, Recording, find_run
from tests import recordings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / RECORDING_NAME


def sample(number: int) -> Sample:
    return Sample(Tier.FAST, number, number + 1, lab=LAB_FAST.row({"usage": number, "budget": 0}))


def test_what_is_written_is_read_back(path: Path) -> None:
    choice = Choice(1.5, "ladder", "calm", "left-alone", "swap", "", "enough is free")
    with Recording.create(path, {"name": "x", "window": [1, 2]}) as recording:
        assert recording.add_vm(VmInfo("b", 2, "process", 10)) == 1
        assert recording.add_vm(VmInfo("a", 1, "qemu", 20)) == 2
        assert recording.add_vm(VmInfo("b", 2, "process", 10)) == 1
        recording.event(0.25, "set", "b", {"name": "balloon"})
        recording.choice(choice)
        assert recording.write_sample(sample(7)) == 1
        assert recording.finish({"ended": "completed"})
    with Recording.open(path) as read:
        assert read.manifest == {"name": "x", "window": [1, 2], "ended": "completed"}
        assert [vm.name for vm in read.vms().values()] == ["a", "b"]
        assert read.events()[0].time == 0.25 and read.events()[0].data == {"name": "balloon"}
        assert read.choices() == (choice,)
        assert read.rows("SELECT sample, usage, swap_used FROM lab_fast") == [(1, 7, None)]


def test_a_finished_recording_is_one_plain_file(path: Path) -> None:
    recordings.build(path.parent, seconds=2)
    assert list(path.parent.iterdir()) == [path]
    path.parent.chmod(0o500)
    try:
        Recording.open(path).close()
    finally:
        path.parent.chmod(0o700)


def test_a_recording_is_never_overwritten(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(RecordingError, match="cannot create"):
        Recording.create(path, {})
    assert path.read_text() == "mine"


def test_a_sample_is_stored_whole_or_not_at_all(path: Path) -> None:
    with Recording.create(path, {}) as recording:
        recording.write_sample(sample(1))
        broken = recordings.fast_sample(1, ["nobody"])
        with pytest.raises(KeyError):
            recording.write_sample(broken)
        recording.write_sample(sample(2))
        assert recording.rows("SELECT count(*) FROM sample") == [(2,)]
        assert recording.rows("SELECT count(*) FROM host_fast") == [(0,)]


def test_two_writers_and_a_reader_at_once(path: Path) -> None:
    main = Recording.create(path, {})
    with Recording.append(path) as sampler, Recording.open(path, check=False) as reader:
        for number in range(50):
            sampler.write_sample(sample(number))
            main.event(number, "phase")
            assert reader.last_sample() == number + 1
            assert len(reader.events()) == number + 1
    main.finish({})


def test_finish_with_a_reader_keeps_the_log_and_loses_nothing(path: Path) -> None:
    recording = Recording.create(path, {})
    recording.connection.execute("PRAGMA busy_timeout=50")
    with Recording.open(path, check=False) as reader:
        reader.connection.execute("BEGIN")
        reader.rows("SELECT * FROM sample")
        recording.write_sample(sample(1))
        assert not recording.finish({"ended": "completed"})
    with Recording.open(path) as read:
        assert read.last_sample() == 1 and read.manifest["ended"] == "completed"


def test_beyond_its_size_limit_samples_are_refused_and_events_are_not(path: Path) -> None:
    main = Recording.create(path, {})
    with Recording.append(path, max_size=path.stat().st_size + 200_000) as sampler:
        with pytest.raises(RecordingError, match="full") as refused:
            for number in range(20_000):
                sampler.write_sample(sample(number))
        assert "size limit" in refused.value.hint
        stored = sampler.last_sample()
    main.event(1, "recording-full")
    main.finish({})
    with Recording.open(path) as read:
        assert 100 < read.last_sample() == stored and len(read.events()) == 1


WRITER = """
import sys
from pathlib import Path
from memlab.record.store import Recording
from tests.unit.test_store import sample
recording = Recording.append(Path(sys.argv[1]))
number = 0
while True:
    number = recording.write_sample(sample(number))
    if number % 50 == 0:
        recording.checkpoint()
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("attempt", range(8))
def test_a_killed_writer_loses_nothing_that_it_acknowledged(path: Path, attempt: int) -> None:
    Recording.create(path, {"name": "killed"}).close()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(random.Random(attempt).uniform(0, 0.15))
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().split(b"\n")
        acknowledged = int(lines[-2]) if len(lines) > 1 else 1
    with Recording.open(path) as read:
        assert read.last_sample() in (acknowledged, acknowledged + 1)
        assert read.rows("SELECT count(*) FROM lab_fast") == [(read.last_sample(),)]
        assert read.manifest == {"name": "killed"}


@pytest.mark.parametrize("shared_memory", [True, False])
def test_the_log_of_a_killed_run_is_read_where_nothing_can_be_written(
    path: Path, shared_memory: bool
) -> None:
    """As an unprivileged reader meets it: neither the directory nor the files can be written."""
    recording = Recording.create(path, {})
    recording.write_sample(sample(1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for end in ("", "-wal", *(["-shm"] if shared_memory else [])):
            shutil.copy(f"{path}{end}", folder)
            (folder / (RECORDING_NAME + end)).chmod(0o444)
        folder.chmod(0o555)
        assert exit_status_as_nobody(folder / RECORDING_NAME) == 0
        folder.chmod(0o755)
    recording.close()


def exit_status_as_nobody(path: Path) -> int:
    """0 if a reader without any rights finds the one sample."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            with Recording.open(path) as read:
                status = 0 if read.last_sample() == 1 else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_what_is_no_recording_is_refused_with_a_hint(path: Path) -> None:
    with pytest.raises(RecordingError, match="no recording") as missing:
        Recording.open(path)
    assert missing.value.hint
    path.write_text("hello " * 1000)
    with pytest.raises(RecordingError, match="not a recording"):
        Recording.open(path)
    path.unlink()
    sqlite3.connect(path).execute("CREATE TABLE t (a)").connection.close()
    with pytest.raises(RecordingError, match="not a recording of memlab"):
        Recording.open(path)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE more (a INTEGER) STRICT",
        "CREATE TRIGGER t AFTER INSERT ON event BEGIN SELECT 1; END",
        "DROP TABLE latency",
        "ALTER TABLE host_fast ADD COLUMN more BLOB",
        "ALTER TABLE event ADD COLUMN more TEXT",
    ],
)
def test_a_recording_with_a_foreign_schema_is_refused(path: Path, change: str) -> None:
    recordings.build(path.parent, seconds=1)
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.close()
    with pytest.raises(RecordingError, match="tables of a recording"):
        Recording.open(path)


def test_a_newer_schema_names_the_remedy(path: Path) -> None:
    recordings.build(path.parent, seconds=1)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RecordingError, match="schema 99") as refused:
        Recording.open(path)
    assert "newer" in refused.value.hint


def test_damage_is_an_error_and_never_a_crash(path: Path) -> None:
    recordings.build(path.parent, seconds=3)
    whole = path.read_bytes()
    dice = random.Random(5)
    for _ in range(60):
        broken = bytearray(whole)
        for _ in range(dice.choice((1, 30))):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        path.write_bytes(broken[: dice.choice((len(broken), dice.randrange(1, len(broken))))])
        try:
            with Recording.open(path) as read:
                read.rows("SELECT * FROM vm_fast")
        except RecordingError as error:
            assert error.hint


def test_a_reader_cannot_write(path: Path) -> None:
    recordings.build(path.parent, seconds=1)
    with Recording.open(path) as read, pytest.raises(RecordingError):
        read.event(1, "set")


def test_the_newest_run_of_a_lab_is_found(tmp_path: Path) -> None:
    for name in ("2026-01-01T10-00-00", "2026-01-02T10-00-00"):
        run = tmp_path / "lab.memlab" / "runs" / name
        run.mkdir(parents=True)
        (run / RECORDING_NAME).touch()
    newest = run / RECORDING_NAME
    assert find_run(tmp_path) == find_run(tmp_path / "lab.memlab") == find_run(run) == newest
    assert find_run(newest) == newest
    with pytest.raises(RecordingError):
        find_run(tmp_path / "nowhere")
