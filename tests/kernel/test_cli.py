"""Every command against a running lab on the real kernel: what it says, does, and leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import memlab
from memlab.kernel.cgroup import lab_group
from memlab.kernel.files import HOST, read_int
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.units import MIB, PAGE
from tests.hoststate import assert_same, snapshot, wait_same
from tests.kernel.owner import wait_until
from tests.pace import slowness

pytestmark = pytest.mark.kernel

ROOT = Path(memlab.__file__).parents[1]
NOBODY = 65534
SMALL = """\
name: cli-small
seed: 5
host: {memory: 112MiB, swap: {size: 96MiB}}
mechanisms: {tps: {pages_to_scan: 1000}, compression: {pool: 8MiB}}
policy: ladder
defaults: {memory: 48MiB, image: {name: debian, size: 8MiB, zero: 20%, common: 60%}}
vms:
  web: {workload: {name: keyvalue, size: 16MiB, args: {rate: 2000}}}
  # After 100 ms its guest has freed 24 MiB that the host still backs.
  ghost: {workload: {name: burst, size: 24MiB, args: {hold: 100ms, pause: 10m, rounds: 1}}}
  program: {memory: 16MiB, command: [sh, -c, "echo begun; exec sleep 600"]}
duration: 3m
"""
SLOWER = ["--time-scale", f"{slowness():.1f}"] if slowness() > 1 else []
"""The lab takes its time where commands do: its samples alone would keep an emulated CPU busy."""


class Lab:
    """A lab file in a folder that its user, nobody, may write to, and the commands run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "small.memlab.yaml"
        self.file.write_text(SMALL)
        os.chown(folder, NOBODY, NOBODY)
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "MEMLAB_DIR": str(folder),
            "SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY), "NO_COLOR": "1", "COLUMNS": "100",
        }  # fmt: skip

    @property
    def marks(self) -> tuple[str, ...]:
        """Of the processes of this lab; those that have only its cgroup keep that from going."""
        return ("/run/memlab", str(self.folder))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "memlab", *words]

    def run(self, *words: str, code: int = 0, cwd: Path | None = None) -> str:
        """Run a command to its end; its stdout and stderr, after its status was `code`."""
        ran = subprocess.run(
            self.command(*words), cwd=cwd or self.folder, env=self.environment, check=False,
            capture_output=True, text=True, timeout=60 * slowness(),
        )  # fmt: skip
        said = ran.stdout + ran.stderr
        logs = "\n".join(log.read_text() for log in self.folder.rglob("lab.log"))
        assert ran.returncode == code, f"{words}: {ran.returncode}\n{said}\n{logs}"
        assert "Traceback" not in said
        return said

    def json(self, *words: str) -> Any:
        ran = subprocess.run(
            self.command(*words), cwd="/", env=self.environment, check=True,
            capture_output=True, text=True, timeout=60 * slowness(),
        )  # fmt: skip
        return json.loads(ran.stdout)

    def up(self, *words: str) -> None:
        self.run("up", "-d", *words, *SLOWER, str(self.file))

    @property
    def status(self) -> Any:
        return self.json("status", "-f", "json")

    def phase(self) -> str | None:
        return str(self.status.get("phase")) if self.status["running"] else None

    @property
    def recording(self) -> Path:
        return max(self.folder.glob("cli-small.memlab/runs/*/recording.sqlite"))

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = self.run("events", str(self.recording), "--decisions").splitlines()
        found = [json.loads(line) for line in lines]
        return [one for one in found if one.get("kind") == kind]

    def processes(self, vm: str) -> tuple[int, ...]:
        return lab_group(self.status["run"]).child(vm).procs()


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """A lab that may be started; the host is as before when it is left, whatever happened."""
    folder.chmod(0o755)
    made = Lab(folder)
    before = snapshot(marks=made.marks)
    try:
        yield made
    finally:
        if made.status["running"]:
            made.run("down")
    wait_same(before, within=10 * slowness(), marks=made.marks)


@pytest.fixture(scope="class")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab that runs in the background while the tests below speak with it."""
    folder = tmp_path_factory.mktemp("cli")
    for above in folder.parents:
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)  # its user must get through
    with lab(folder) as made:
        made.up()
        yield made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        made.file.write_text(re.sub(r"  program:.*\n", "", SMALL))
        yield made


class TestARunningLab:
    """They share one lab: each leaves it running."""

    def test_the_table_has_each_vm_and_the_sums(self, small: Lab) -> None:
        said = small.run("status", cwd=Path("/"))
        for word in ("lab cli-small, running", "web", "ghost", "program", "machine memory"):
            assert word in said

    def test_json_names_the_run_whose_cgroups_there_are(self, small: Lab) -> None:
        status = small.status
        assert status["schema_version"] == 1
        assert (status["lab"], status["running"]) == ("cli-small", True)
        assert Path(status["recording"]).is_absolute()
        group = lab_group(status["run"])
        assert sorted(path.name for path in group.path.iterdir() if path.is_dir()) == [
            "ghost", "program", "web",
        ]  # fmt: skip

    def test_a_balloon_is_in_the_kernel_and_in_the_recording(self, small: Lab) -> None:
        (pid,) = small.processes("ghost")
        assert wait_until(lambda: _guest(small, "ghost")["free_pages"] * PAGE >= 30 * MIB)
        held = _resident(pid)
        said = small.run("set", "vms.ghost.balloon=20MiB")
        assert "ghost: balloon 20.0 MiB" in said
        assert wait_until(lambda: _guest(small, "ghost")["ballooned_pages"] * PAGE == 20 * MIB)
        assert held - _resident(pid) >= 18 * MIB
        (event,) = [one for one in small.events("set") if "balloon" in one["data"]["path"]]
        assert (event["vm"], event["data"]["value"]) == ("ghost", "20MiB")
        assert wait_until(lambda: _column(small, "ballooned") == 20 * MIB)

    def test_the_pace_of_page_sharing(self, small: Lab) -> None:
        said = small.run("set", "mechanisms.tps.pages_to_scan=777")
        assert "pages_to_scan 777" in said
        assert read_int(HOST.ksm / "pages_to_scan") == 777
        paths = [one["data"]["path"] for one in small.events("set")]
        assert "mechanisms.tps.pages_to_scan" in paths

    def test_a_setting_of_the_policy(self, small: Lab) -> None:
        assert "sharing is 55%" in small.run("set", "policy.settings.sharing=55%")
        assert any(one["data"]["path"].startswith("policy.") for one in small.events("set"))

    def test_a_workload(self, small: Lab) -> None:
        assert _guest(small, "web")["workload"] == "keyvalue"
        small.run("set", "vms.web.workload=idle")
        assert _guest(small, "web")["workload"] == "idle"
        paths = [one["data"]["path"] for one in small.events("set")]
        assert "vms.web.workload" in paths

    def test_what_cannot_be_set_is_said(self, small: Lab) -> None:
        assert "pages_to_scan" in small.run("set", "mechanisms.tps.pages_to_scn=1", code=2)
        assert "no VM is called" in small.run("set", "vms.wob.balloon=1MiB", code=2)
        assert "vms.NAME.balloon" in small.run("set")

    def test_the_miniature_guest_answers(self, small: Lab) -> None:
        assert _guest(small, "web")["configured_pages"] == 48 * MIB // PAGE
        assert json.loads(small.run("exec", "web", "--", "verify"))["bad"] == 0
        assert "it has: stats, verify" in small.run("exec", "web", "--", "ls", code=2)

    def test_a_program_runs_as_the_user_in_the_cgroup(self, small: Lab) -> None:
        script = "id -u; cat /proc/self/cgroup; exit 7"
        said = small.run("exec", "program", "--", "sh", "-c", script, code=7)
        assert said.splitlines()[0] == str(NOBODY)
        assert f"memlab-{small.status['run']}/program" in said

    def test_the_lab_files_program_is_the_users_too(self, small: Lab) -> None:
        for pid in small.processes("program"):
            assert Path(f"/proc/{pid}").stat().st_uid == NOBODY

    def test_logs(self, small: Lab) -> None:
        assert small.run("logs", "program", "--run", str(small.recording)) == "begun\n"
        assert "vm-started" in small.run("logs", "--run", str(small.recording))
        assert "has no log" in small.run("logs", "web", "--run", str(small.recording), code=1)

    def test_events(self, small: Lab) -> None:
        assert {one["vm"] for one in small.events("vm-started")} == {"web", "ghost", "program"}

    def test_the_recording_is_the_users(self, small: Lab) -> None:
        assert small.recording.parent.stat().st_uid == NOBODY

    def test_the_same_is_fine(self, small: Lab) -> None:
        assert "cli-small runs already: running" in small.run("up", str(small.file))

    def test_a_changed_file_names_the_ways(self, small: Lab) -> None:
        said = small.run("up", str(small.file), "--set", "host.memory=120MiB", code=1)
        assert "memlab set PATH=VALUE" in said
        assert "--recreate" in said

    def test_another_lab_names_the_owner(self, small: Lab) -> None:
        said = small.run("up", "ghost", code=3)
        assert "lab 'cli-small' owns this host" in said
        assert "memlab down cli-small" in said
        assert "--replace" in said

    def test_down_of_another_name_and_clean_leave_it_alone(self, small: Lab) -> None:
        assert "is called cli-small, not other" in small.run("down", "other", code=2)
        assert "memlab down cli-small" in small.run("clean", code=3)
        assert small.phase() == "running"


def test_replace_takes_the_place_and_down_gives_back(fresh: Lab) -> None:
    before = snapshot(marks=fresh.marks)
    fresh.up()
    first = fresh.status["run"]
    other = fresh.folder / "other.memlab.yaml"
    other.write_text(fresh.file.read_text().replace("cli-small", "cli-other"))
    fresh.run("up", "-d", "--replace", *SLOWER, str(other))
    assert fresh.status["lab"] == "cli-other"
    assert not lab_group(first).path.exists()
    assert "cli-other has ended; the host was given back" in fresh.run("down")
    assert fresh.status == {"schema_version": 1, "running": False}
    assert_same(before, snapshot(marks=fresh.marks))
    assert "no lab is running" in fresh.run("down", code=3)
    with sqlite3.connect(f"file:{fresh.recording}?mode=ro", uri=True) as recording:
        assert recording.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_dry_run_changes_nothing_and_names_each_change(fresh: Lab) -> None:
    before = snapshot([fresh.folder], marks=fresh.marks)
    said = fresh.run("up", "--dry-run", str(fresh.file))
    assert_same(before, snapshot([fresh.folder], marks=fresh.marks))
    old = read_int(HOST.ksm / "pages_to_scan")
    assert f"/sys/kernel/mm/ksm/pages_to_scan: {old} → 1000" in said
    assert "a swap file of 96.0 MiB" in said
    assert "host budget 112.0 MiB" in said


def test_sigterm_ends_it_in_order(fresh: Lab) -> None:
    log = fresh.folder / "out"
    with log.open("w") as out:
        main = subprocess.Popen(
            fresh.command("up", *SLOWER, str(fresh.file)), cwd=fresh.folder, env=fresh.environment,
            stdout=out, stderr=out,
        )  # fmt: skip
        try:
            assert wait_until(lambda: "web runs" in log.read_text(), timeout=20)
            assert "\x1b" not in log.read_text()  # plain lines, it is no terminal
            main.send_signal(signal.SIGTERM)
            assert main.wait(30 * slowness()) == 130
        finally:
            main.kill()
            main.wait()
    assert fresh.status["running"] is False


class Terminal:
    """A real pseudo-terminal in a tmux server of its own."""

    def __init__(self, words: Sequence[str], environment: dict[str, str], folder: Path) -> None:
        self._tmux = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux")]
        shown = " ".join(f"'{word}'" for word in words)
        line = f"{shown}; echo left with $?; exec sleep 120"
        subprocess.run(
            [*self._tmux, "new-session", "-d", "-x", "100", "-y", "40", line],
            env={**environment, "TERM": "xterm-256color"}, cwd=folder, check=True,
        )  # fmt: skip

    def screen(self) -> str:
        shown = subprocess.run(
            [*self._tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True
        )
        return shown.stdout

    def press(self, key: str) -> None:
        subprocess.run([*self._tmux, "send-keys", key], check=True)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False)


def test_ctrl_c_at_a_terminal_gives_the_host_back(fresh: Lab) -> None:
    assert shutil.which("tmux"), "apt-get install tmux"
    environment = {key: value for key, value in fresh.environment.items() if key != "COLUMNS"}
    terminal = Terminal(fresh.command("up", *SLOWER, str(fresh.file)), environment, fresh.folder)
    try:
        assert wait_until(lambda: "machine memory" in terminal.screen(), timeout=20)
        first = _shown_time(terminal.screen())
        assert wait_until(lambda: _shown_time(terminal.screen()) >= first + 1.0)
        screen = terminal.screen()
        assert screen.count("machine memory") == 1, f"it scrolls and does not redraw:\n{screen}"
        assert re.search(r"^web +\d+", screen, re.MULTILINE)
        terminal.press("C-c")
        assert wait_until(lambda: "left with" in terminal.screen(), timeout=30), terminal.screen()
        assert "left with 130" in terminal.screen()
        assert "Traceback" not in terminal.screen()
    finally:
        terminal.close()
    assert fresh.status["running"] is False


def test_ctrl_c_twice_stops_no_clean_up(fresh: Lab) -> None:
    terminal = Terminal(
        fresh.command("up", *SLOWER, str(fresh.file)), fresh.environment, fresh.folder
    )
    try:
        assert wait_until(lambda: "web runs" in terminal.screen(), timeout=20)
        for _ in range(3):
            terminal.press("C-c")
            time.sleep(0.05)
        assert wait_until(lambda: "left with 130" in terminal.screen(), timeout=30)
    finally:
        terminal.close()


def _shown_time(screen: str) -> float:
    found = re.search(r"(\d+\.\d) s +running", screen)
    return float(found[1]) if found else 0.0


def _guest(lab: Lab, vm: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(lab.run("exec", vm, "--", "stats"))
    return answer


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{pid} is gone")


def _column(lab: Lab, name: str) -> float | None:
    """The newest value of a column of VM ghost, from the recording itself."""
    with Derived.open(lab.recording, check=False) as source:
        return source.latest(Entity.VM, name, "ghost")
