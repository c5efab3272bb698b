"""`memlab report`: where it finds a run, where it writes, and what it says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memlab.cli import report
from memlab.cli.main import main
from tests.recordings import build


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with one lab that ran twice; the newer run is the second."""
    for name in ("2026-11-23T10-00-00", "2026-11-23T11-00-00"):
        run = tmp_path / "demo.memlab" / "runs" / name
        run.mkdir(parents=True)
        build(run, seconds=15)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda _url: pytest.fail("nobody asked for a browser"))
    return tmp_path


def test_without_a_run_the_newest_here_is_taken_and_the_page_put_beside_it(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.parent.name == "2026-11-23T11-00-00"
    assert (lab / path).read_text().startswith("<!DOCTYPE html>")


def test_output_goes_where_it_is_asked_to(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "demo.memlab", "-o", "r.html"]) == 0
    assert (lab / "r.html").is_file()
    assert main(["report", "-o", "-"]) == 0
    assert "<!DOCTYPE html>" in capsys.readouterr().out


def test_open_opens_the_page(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def browser(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    assert main(["report", "-o", "r.html", "--open"]) == 0
    assert opened == [(lab / "r.html").as_uri()]


def test_table_and_json_go_to_stdout(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.is_dir()
    assert main(["report", "-f", "table"]) == 0
    assert "Machine memory used" in capsys.readouterr().out
    assert main(["report", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["lab"] == "synthetic"
    assert main(["report", "-f", "table", "-o", "t.txt"]) == 0
    assert capsys.readouterr().out == ""
    assert "Machine memory used" in Path("t.txt").read_text()


def test_a_baseline_is_read_as_well(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = lab / "demo.memlab" / "runs" / "2026-11-23T10-00-00"
    assert main(["report", "-f", "json", "--baseline", str(older)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["baseline"] == "run synthetic"
    assert found["performance"][0]["against"] == found["performance"][0]["value"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nowhere"], 1, "there is no recording at nowhere"),
        (["demo.memlab", "--baseline", "nowhere"], 1, "there is no recording at nowhere"),
        (["-o", "no/such/place.html"], 1, "cannot write no/such/place.html"),
        (["demo.memlab", "--example"], 2, "--example is a run of its own"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    lab: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str
) -> None:
    assert lab.is_dir()
    assert main(["report", *words]) == status
    captured = capsys.readouterr()
    assert said in captured.err
    assert "fix:" in captured.err
    assert captured.out == ""


def test_the_example_is_drawn_into_the_current_directory(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = next(lab.glob("demo.memlab/runs/*/recording.sqlite"))
    monkeypatch.setattr(report, "example_run", lambda _stack: recording)
    assert main(["report", "--example"]) == 0
    assert capsys.readouterr().out.strip() == "memlab-example.html"
    assert (lab / "memlab-example.html").is_file()


def test_a_memlab_without_its_example_says_so(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lab.is_dir()
    monkeypatch.setattr(report, "EXAMPLE", "no-such.memlab")
    assert main(["report", "--example"]) == 1
    assert "memlab up quickstart" in capsys.readouterr().err
