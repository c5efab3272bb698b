"""docs/commands.md against the commands: each command and option is there, none is invented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from memlab.cli.main import ALIASES, VERBS, main, root

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
SECTIONS = {
    part.split("`", 2)[1].split()[1]: part
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    if part.startswith("`memlab ")
}


def command_of(verb: str) -> click.Command:
    found = root.get_command(click.Context(root), verb)
    assert found is not None
    return found


def options_of(command: click.Command) -> set[str]:
    found = {
        word
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
        for word in (*param.opts, *param.secondary_opts)
    }
    if isinstance(command, click.Group) and command is not root:
        for inner in command.commands.values():
            found |= options_of(inner)
    return found


def documented(section: str) -> set[str]:
    """Options in the first column of its tables."""
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `-")]
    return {word for row in rows for word in re.findall(r"`(-[\w-]+)`", row)}


def test_every_command_has_a_section_and_there_is_no_other() -> None:
    assert list(SECTIONS) == list(VERBS)
    for alias in ALIASES:
        assert f"`{alias}`" in PAGE, alias


@pytest.mark.parametrize("verb", VERBS)
def test_options_are_those_of_the_command(verb: str) -> None:
    assert documented(SECTIONS[verb]) == options_of(command_of(verb))
    if not options_of(command_of(verb)):
        assert "It has no options." in " ".join(SECTIONS[verb].split())


def test_the_options_of_memlab_itself() -> None:
    head = PAGE.partition("## Exit status")[0]
    assert documented(head) == options_of(root) | {"-h", "--help"}


@pytest.mark.parametrize("verb", VERBS)
def test_arguments_are_in_the_headline(verb: str) -> None:
    headline = SECTIONS[verb].splitlines()[0]
    for param in command_of(verb).params:
        if isinstance(param, click.Argument):
            name = param.human_readable_name if param.metavar is None else param.metavar
            shown = name if isinstance(param.type, click.Choice) is False else "bash"
            first = shown.split(" | ")[0].strip("[].…").split("]")[0].rstrip("S")
            assert first in headline, (verb, shown)


@pytest.mark.parametrize("verb", VERBS)
def test_each_command_has_help_and_the_choices_are_documented(verb: str) -> None:
    command = command_of(verb)
    assert command.help
    for param in command.params:
        if isinstance(param.type, click.Choice):
            for choice in param.type.choices:
                assert str(choice) in SECTIONS[verb]


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        (["version", "-f", "json"], (0,)),
        (["validate", "quickstart", "-f", "json"], (0,)),
        (["examples", "list", "-f", "json"], (0,)),
        (["doctor", "-f", "json"], (0, 3)),
        (["status", "-f", "json"], (0, 4)),
    ],
)
def test_json_has_a_version_and_documented_keys(
    words: list[str],
    codes: tuple[int, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("MEMLAB_RUN_DIR", str(tmp_path / "run"))
    assert main(words) in codes
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema_version"] == 1
    for key in answer:
        assert f"`{key}`" in SECTIONS[words[0]], key


def test_exit_codes_are_those_of_the_errors() -> None:
    from memlab import errors

    known = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert known == {0, 1, 2, 3, 4, 130}
    for one in vars(errors).values():
        if isinstance(one, type) and issubclass(one, errors.MemlabError):
            assert one.exit_code in known
