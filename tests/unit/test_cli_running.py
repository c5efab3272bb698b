"""The verbs about a running lab when there is none, or when it cannot be seen; and their manner."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from memlab.cli import running, up
from memlab.cli.main import VERBS, main
from memlab.cli.words import MANNER
from memlab.errors import HostError
from memlab.kernel.journal import NAME as JOURNAL
from memlab.kernel.owner import FORGOTTEN
from memlab.kernel.rundir import RunDir


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As root, with a run directory of its own; it is not there yet."""
    path = tmp_path / "run"
    monkeypatch.setenv("MEMLAB_RUN_DIR", str(path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("memlab.cli.asroot.become_root", lambda *_, **__: None)
    return path


def err(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status"], 0),
        (["down"], 3),
        (["set", "host.memory=64MiB"], 3),
        (["exec", "web", "--", "stats"], 3),
    ],
)
def test_no_lab_runs(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    said = err(capsys)
    assert "no lab is running" in said
    assert code == 0 or "fix: start one: memlab up quickstart" in said


def test_json_of_no_lab(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "running": False}


class TestHidden:
    @pytest.fixture(autouse=True)
    def hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise HostError("this needs root, and there is no sudo on this machine")

        monkeypatch.setattr(running, "hidden", lambda: True)
        monkeypatch.setattr("memlab.cli.asroot.become_root", refuse)

    def test_it_is_one_sentence(self, capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
        assert main(["status"]) == 4
        (line,) = err(capsys).splitlines()
        assert line.startswith("only root can see whether a lab is running: ")
        assert str(run_dir) in line

    def test_json_does_not_claim_to_know(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["status", "-f", "json"]) == 4
        answer = json.loads(capsys.readouterr().out)
        assert "running" not in answer
        assert answer["reason"]


def test_hidden_is_a_directory_that_cannot_be_opened(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not running.hidden()
    run_dir.mkdir(mode=0o700)
    assert not running.hidden()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert running.hidden()


class TestClean:
    def test_nothing_to_do(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["clean"]) == 0
        assert main(["clean", "--forget"]) == 0
        assert "nothing to clean up" in err(capsys)

    def test_a_damaged_journal_is_given_up_only_when_asked(
        self, run_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        RunDir.made(run_dir).close()
        (run_dir / JOURNAL).write_text("not a journal\n")
        (run_dir / JOURNAL).chmod(0o600)
        assert main(["clean"]) == 1
        said = err(capsys)
        assert "damaged" in said
        assert "memlab clean --forget" in said
        assert (run_dir / JOURNAL).exists()

        assert main(["clean", "--forget"]) == 4
        shown = capsys.readouterr()
        assert "given up: journal: its first line is damaged" in shown.out
        assert "warning:" in shown.err
        assert str(run_dir / FORGOTTEN) in shown.err
        assert (run_dir / FORGOTTEN).read_text() == "not a journal\n"
        assert main(["clean"]) == 0


class TestManner:
    @pytest.fixture(autouse=True)
    def again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setattr(MANNER, "quiet", False)
        monkeypatch.setattr(MANNER, "verbose", False)

    def test_quiet_leaves_results_and_errors(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--quiet", "status"]) == 0
        assert err(capsys) == ""
        assert main(["-q", "examples"]) == 0
        shown = capsys.readouterr()
        assert "quickstart" in shown.out
        assert shown.err == ""
        assert main(["-q", "down"]) == 3
        assert "no lab is running" in err(capsys)

    def test_verbose_says_where(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["down"]) == 3
        assert "Traceback" not in err(capsys)
        assert main(["-v", "down"]) == 3
        assert "in needed" in err(capsys)

    def test_no_color_reaches_everybody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "")
        assert main(["--no-color", "status"]) == 0
        assert os.environ["NO_COLOR"] == "1"

    def test_a_variable_stands_for_each_option(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MEMLAB_STATUS_FORMAT", "json")
        assert main(["status"]) == 0
        assert json.loads(capsys.readouterr().out)["running"] is False
        monkeypatch.setenv("MEMLAB_UP_DRY_RUN", "1")
        assert main(["deploy", "ghost"]) == 0
        assert "cgroups memlab-<run>/" in capsys.readouterr().out


class TestUp:
    def test_dry_run_says_all_and_starts_nothing(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        assert main(["up", "ghost", "--dry-run"]) == 0
        out = capsys.readouterr().out
        assert "cgroups memlab-<run>/" in out
        assert "host budget 384.0 MiB ≤ available" in out
        assert not list(tmp_path.iterdir())

    def test_standard_input_is_roots_alone(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        class Stdin:
            class buffer:  # noqa: N801 — as sys.stdin has it
                @staticmethod
                def read(_: int) -> bytes:
                    return (
                        b"name: a\nhost: {memory: 64MiB}\npolicy: none\n"
                        b"mechanisms: {tps: off, balloon: off, compression: off, swap: off}\n"
                        b"vms: {a: {memory: 16MiB, workload: {name: idle, size: 4MiB}}}\n"
                    )

        monkeypatch.setattr("sys.stdin", Stdin)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert main(["up", "-"]) == 3
        assert "write it to a file" in err(capsys)

    def test_no_lab_file_here(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert main(["up"]) == 2
        assert "memlab up quickstart" in err(capsys)
        for name in ("a", "b"):
            shutil.copy(
                Path(up.__file__).parents[1] / "vmspecs/ghost.yaml",
                tmp_path / f"{name}.memlab.yaml",
            )
        assert main(["up"]) == 2
        assert "a.memlab.yaml, b.memlab.yaml" in err(capsys)

    def test_a_host_that_lacks_rights_is_refused_before_anything(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr("memlab.kernel.probe_host.has_root", lambda roots: False)
        assert main(["up", "ghost"]) == 3
        assert "without CAP_SYS_ADMIN" in err(capsys)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"Usage: memlab {verb}" in capsys.readouterr().out


def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validat"]) == 2
    assert "Did you mean 'validate'?" in err(capsys)
    assert main(["status", "--no-such"]) == 2
