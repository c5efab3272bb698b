"""What the host and others on it do to a run (faults 22, 24, 34, 35, 36, 39 and 44)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from memlab.errors import MemlabError
from memlab.kernel.files import HOST, read_text, write_text
from memlab.kernel.lock import LEFT
from memlab.kernel.rundir import VARIABLE, place
from memlab.lab.channel import NAME as CONTROL
from memlab.record.store import Recording
from tests.faults.trial import SMALL, Trial, assert_holds

pytestmark = pytest.mark.faults

PAGES_TO_SCAN = HOST.ksm / "pages_to_scan"
PAGE_CLUSTER = HOST.proc / "sys/vm/page-cluster"


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """A file system of its own, so small or so closed that writing fails."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_what_others_change_meanwhile_is_left_and_reported(trial: Trial) -> None:
    before = {path: read_text(path) or "" for path in (PAGES_TO_SCAN, PAGE_CLUSTER)}
    try:
        with trial.up(duration="3s") as run:
            run.until_pressed()
            write_text(PAGES_TO_SCAN, "777")
            write_text(PAGE_CLUSTER, "5")
            write_text(HOST.ksm / "run", before_lab(trial, HOST.ksm / "run"))
            assert run.end() == 4, run.said
        assert read_text(PAGES_TO_SCAN) == "777"
        assert read_text(PAGE_CLUSTER) == "5"
        assert "page-cluster is now 5, changed by somebody else" in " ".join(run.said.split())
        assert "pages_to_scan is now 777, changed by somebody else" in " ".join(run.said.split())
        assert (place() / LEFT).exists()
        forced = trial.memlab("clean", "--force")
        assert forced.returncode == 0, forced.stderr
        assert read_text(PAGE_CLUSTER) == before[PAGE_CLUSTER]
        # ksmd was made quick to forget what the VMs had merged, and got their value back.
        write_text(PAGES_TO_SCAN, before[PAGES_TO_SCAN])
        trial.given_back(within=0.5)
    finally:
        for path, value in before.items():
            write_text(path, value)


def before_lab(trial: Trial, path: Path) -> str:
    """What stood in a knob before the lab."""
    return trial.before.knobs[str(path)]


def test_somebody_stops_ksmd_and_the_run_goes_on(trial: Trial) -> None:
    with trial.up(duration="3s") as run:
        run.until_pressed()
        write_text(HOST.ksm / "run", "2")
        assert run.end() in (0, 4), run.said
    if read_text(HOST.ksm / "run") == "2":
        assert "ksm/run" in run.said
        assert trial.memlab("clean", "--force").returncode == 0


def test_the_disk_of_the_recording_is_full(trial: Trial) -> None:
    with small_disk(trial.folder / "disk", "size=400k") as disk:
        with trial.up(duration="20s", directory=disk) as run:
            assert run.end() == 1, run.said
            assert "full" in run.said
            assert "make room" in run.said
        seconds = trial_without_mount(trial)
        assert seconds < 1
        assert_holds(run.recording, run.committed())
        assert run.committed().sample > 5


def trial_without_mount(trial: Trial) -> float:
    """Seconds until the host is as before, but for the mount of the test itself."""
    before, disk = trial.before, str(trial.folder / "disk")
    ours = {disk: trial.host().mounts[disk]}
    trial.before = replace(before, mounts={**before.mounts, **ours})
    try:
        return trial.given_back()
    finally:
        trial.before = before


def test_no_room_for_the_recording_at_all(trial: Trial) -> None:
    with (
        small_disk(trial.folder / "disk", "size=16k") as disk,
        trial.up(duration="20s", directory=disk) as run,
    ):
        assert run.end() == 1, run.said
        assert "make room" in run.said
    trial.given_back(within=1)


def test_a_read_only_disk_is_said_before_anything_is_changed(trial: Trial) -> None:
    with (
        small_disk(trial.folder / "disk", "ro,size=1m") as disk,
        trial.up(duration="20s", directory=disk) as run,
    ):
        assert run.end() == 1, run.said
        assert "Read-only file system" in run.said
        assert "MEMLAB_DIR" in run.said


@pytest.mark.parametrize("size", ["4k", "8k", "12k"])
def test_no_room_for_the_journal(trial: Trial, size: str) -> None:
    with small_disk(trial.folder / "disk", f"size={size}") as disk:
        run_directory = disk / "memlab"
        run_directory.mkdir(mode=0o700)
        with trial.up(duration="1500ms", env={VARIABLE: str(run_directory)}) as run:
            assert run.end() in (0, 1, 3), run.said
            assert "error:" in run.said or "passed" in run.said
            assert not (run_directory / "journal").exists()
    trial.given_back(within=1)


@pytest.mark.parametrize("most", [16, 28, 40, 56])
def test_too_few_open_files_is_said_clearly(trial: Trial, most: int) -> None:
    with trial.up(duration="1500ms", nofile=most) as run:
        status = run.end()
        assert status in (0, 1, 3), run.said
        if status:
            assert "files" in run.said
            assert "ulimit" in run.said
    trial.given_back(within=2)


def test_256_open_files_are_enough_for_a_small_lab(trial: Trial) -> None:
    with trial.up(duration="1500ms", nofile=256) as run:
        assert run.end() == 0, run.said


def test_a_second_lab_is_refused_at_once_and_told_who_owns_the_host(trial: Trial) -> None:
    other = trial.folder / "other.yaml"
    other.write_text(SMALL.read_text().replace("name: faults", "name: other", 1))
    with trial.up(duration="4s") as run:
        run.until_pressed()
        began = time.monotonic()
        refused = trial.memlab("up", str(other))
        assert time.monotonic() - began < 2, "with the start of the command; alone it is 1 s"
        assert refused.returncode == 3
        assert "'faults' owns this host" in refused.stderr
        assert f"pid {run.main.pid}" in refused.stderr
        assert "memlab down faults" in refused.stderr
        assert "--replace" in refused.stderr
        assert run.end() == 0, run.said


def test_of_two_labs_started_at_once_one_runs(trial: Trial) -> None:
    for _ in range(4):
        with trial.up(duration="1500ms") as one, trial.up(duration="1500ms") as two:
            ended = {one.end(): one, two.end(): two}
        assert 0 in ended, [run.said for run in ended.values()]
        if refused := [run for status, run in ended.items() if status]:
            assert set(ended) == {0, 3}, refused[0].said
        trial.given_back(within=1)


def test_a_silent_peer_does_not_hold_the_lab_up(trial: Trial) -> None:
    with trial.up(duration="60s") as run:
        run.until_pressed()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(place() / CONTROL))
            silent.sendall(b'{"verb"')
            began = time.monotonic()
            assert run.ask({"verb": "status"})["lab"] == "faults"
            assert time.monotonic() - began < 1
        with pytest.raises(MemlabError, match="does not know"):
            run.ask({"verb": "dance"})
        run.ask({"verb": "down"})
        assert run.end() == 130, run.said


def test_the_sampler_is_killed(trial: Trial) -> None:
    with trial.up(duration="20s") as run:
        run.until_pressed()
        safe = run.committed()
        os.kill(run.sampler, signal.SIGKILL)
        assert run.end() == 1, run.said
        assert "the sampler has ended" in run.said
        assert "safe" in run.said
        trial.given_back(within=1)
        assert_holds(run.recording, safe)
        assert run.recording is not None
        with Recording.open(run.recording) as recording:
            assert recording.manifest["ended"] == "failed"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"\xff\xfe\0\n",
        b"[" * 50_000 + b"\n",
        b'{"verb": 5}\n',
        b'{"verb": "set", "settings": {"vms.web.balloon": null, "": [], "host": {}}}\n',
        b'{"verb": "set", "settings": {"policy.settings.swap": NaN}}\n',
        b'{"verb": "exec", "vm": "nobody", "command": []}\n',
        b'{"verb": "exec", "vm": "web", "command": []}\n',
        b'{"verb": "exec", "vm": "web", "command": ["\\u0000"]}\n',
        b"x" * 200_000,
        b'{"verb": "sta',
    ],
    ids=lambda words: repr(words[:24]),
)
def test_garbage_at_the_control_socket(running: Trial, garbage: bytes) -> None:
    answer = _send(garbage)
    assert not answer or not json.loads(answer)["ok"]
    assert json.loads(_send(b'{"verb": "status"}\n'))["ok"], "the lab still answers"


def _send(question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(8)
        peer.connect(str(place() / CONTROL))
        try:
            peer.sendall(question)
            peer.shutdown(socket.SHUT_WR)
            return peer.makefile("rb").readline()
        except (BrokenPipeError, ConnectionResetError):
            return b""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """One lab for all that is said to its socket; at its end the host is as before."""
    folder = Path(f"/var/tmp/faults-socket-{os.getpid()}")
    folder.mkdir()
    try:
        trial = Trial(folder)
        with trial.up(duration="60s") as run:
            run.until((place() / CONTROL).exists, "it listens")
            yield trial
            assert run.ask({"verb": "down"})["lab"] == "faults"
            assert run.end() == 130, run.said
        trial.given_back(within=1)
    finally:
        subprocess.run(["rm", "-r", str(folder)], check=True)
