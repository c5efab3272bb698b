"""The verbs about lab files: validate, schema, init, examples, completion, version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memlab.cli.main import main

FIVE = """\
name: five
host: {memory: 384}
mechanisms: {tps: maybe}
vms:
  web:
    count: 2
    memory: 64MiB
    wrkload: keyvalue
timeline:
  - {at: 5s, set: {vms.wob.balloon: 16MiB}}
expect:
  - {name: shared, that: "max(lab.saved_shring) >= 32MiB"}
"""


def test_five_faults_are_reported_at_once_with_their_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "five.memlab.yaml"
    path.write_text(FIVE)
    assert main(["validate", str(path)]) == 2
    error = capsys.readouterr().err
    assert "5 faults" in error
    for place, caret, words, fix in (
        ("2:16", "host: {memory: 384}", "'384' has no unit", "write 384MiB"),
        ("3:19", "mechanisms: {tps: maybe}", "'maybe' is not a switch", "write on or off"),
        ("8:5", "    wrkload: keyvalue", "no key 'wrkload'", "write workload"),
        ("10:20", "  - {at: 5s, set", "no VM is called 'wob'", "write web"),
        ("12:26", '  - {name: shared, that: "max', "no column 'saved_shring'", "saved_sharing"),
    ):
        assert f"--> {path}:{place}\n" in error
        block = next(part for part in error.split("\n\n") if f":{place}\n" in part)
        assert words in block
        assert fix in block
        lines = block.splitlines()
        shown = next(number for number, line in enumerate(lines) if caret in line)
        column = int(place.partition(":")[2])
        assert lines[shown + 1].index("^") - lines[shown].index("| ") == column + 1


def test_the_same_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "five.memlab.yaml"
    path.write_text(FIVE)
    assert main(["validate", str(path), "quickstart", "none.yaml", "-f", "json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    bad, good, gone = answer["files"]
    assert answer["schema_version"] == 1
    assert [(fault["code"], fault["line"], fault["column"]) for fault in bad["faults"]] == [
        ("ML013", 2, 16), ("ML016", 3, 19), ("ML010", 8, 5), ("ML041", 10, 20), ("ML044", 12, 26),
    ]  # fmt: skip
    assert (bad["valid"], good["valid"], gone["valid"]) == (False, True, False)
    assert good["lab"]["vms"] == ["web-1", "web-2", "batch", "archive"]
    assert good["lab"]["overcommitment"] >= 1.5
    assert "error" in gone


def test_a_fault_of_set_has_no_line_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "ghost", "--set", "host.memory=64", "-f", "json"]) == 2
    fault = json.loads(capsys.readouterr().out)["files"][0]["faults"][0]
    assert fault["message"].startswith("--set host.memory=64: ")
    assert "line" not in fault


def test_what_is_fine_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "validate",
                "quickstart",
                "--set",
                "host.memory=32MiB",
                "--set",
                "host.swap.size=512MiB",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "valid: 4 VMs, 640.0 MiB configured in 32.0 MiB, over-commitment 20.00" in out
    assert "will not be admitted without --i-know" in out


def test_swap_off_says_what_else_that_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "quickstart", "--set", "mechanisms.swap=off"]) == 0
    assert "swap is off, and compression with it" in capsys.readouterr().out


def test_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "memlab", "validate", "-"],
        input=FIVE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "--> stdin:2:16" in ran.stderr
    assert ran.stdout == ""


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "memlab lab file"


def test_init_writes_a_valid_lab_and_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine"]) == 0
    text = Path("mine.memlab.yaml").read_text("utf-8")
    modeline = text.splitlines()[0]
    assert modeline == "# yaml-language-server: $schema=./memlab.schema.json"
    assert json.loads(Path("memlab.schema.json").read_text("utf-8"))["$schema"]
    assert "name: mine\n" in text
    assert main(["validate", "mine.memlab.yaml"]) == 0
    Path("mine.memlab.yaml").write_text("mine")
    assert main(["init", "mine"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert Path("mine.memlab.yaml").read_text() == "mine"
    assert main(["init", "Bad Name"]) == 2


def test_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["examples"]) == 0
    assert "quickstart" in capsys.readouterr().out
    assert main(["examples", "list", "-f", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)["examples"]
    assert {"quickstart", "ghost", "sharing"} <= {row["name"] for row in listed}
    assert main(["examples", "copy", "ghost"]) == 0
    assert main(["validate", "ghost.memlab.yaml"]) == 0
    assert main(["examples", "copy", "ghost"]) == 2
    assert main(["examples", "copy", "gost"]) == 2
    assert "did you mean ghost?" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_MEMLAB_COMPLETE" in capsys.readouterr().out


def test_completion_works() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "memlab"],
        env={"_MEMLAB_COMPLETE": "bash_complete", "COMP_WORDS": "memlab val", "COMP_CWORD": "1",
             "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "plain,validate" in ran.stdout


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("memlab ")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == said
    monkeypatch.setenv("MEMLAB_VERSION", "1")
    assert main(["examples", "list"]) == 0
    assert capsys.readouterr().out != said, "a variable that many scripts have asks for nothing"
    assert main(["version", "-f", "json"]) == 0
    assert "python" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("verb", [[], ["up"], ["exercise", "start"]])
def test_help_as_a_verb(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert main(["help", *verb]) == 0
    assert capsys.readouterr().out == said and said.startswith(" ".join(["Usage: memlab", *verb]))


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from memlab.cli.main import main; main(['--help']);"
        "print([m for m in ('pydantic', 'ruamel.yaml', 'rich', 'sqlite3') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "validate" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"
