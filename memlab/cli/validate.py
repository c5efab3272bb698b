"""`memlab validate FILE…`: every fault of each file, or what it comes to."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from memlab.cli.words import say, show_error
from memlab.errors import LabFileError, MemlabError, UsageError


@click.command("validate")
@click.argument("files", nargs=-1, required=True)
@click.option("--set", "sets", multiple=True, metavar="PATH=VALUE", help="Set this over the file.")
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text")
def command(files: tuple[str, ...], sets: tuple[str, ...], form: str) -> int:
    """Check lab files: paths, bundled names, or - for standard input.

    Exits 2 with every fault of every file, each with its line, column and repair.
    """
    results = [_validate(name, sets) for name in files]
    if form == "json":
        click.echo(json.dumps({"schema_version": 1, "files": [_plain(*r) for r in results]}))
    else:
        for name, outcome in results:
            if isinstance(outcome, MemlabError):
                show_error(outcome)
                say()
            else:
                click.echo(f"{name}: {outcome['summary']}")
                for note in outcome["notes"]:
                    click.echo(f"  {note}")
    return 2 if any(isinstance(outcome, MemlabError) for _, outcome in results) else 0


def _validate(
    name: str, sets: tuple[str, ...]
) -> tuple[str, dict[str, Any] | LabFileError | UsageError]:
    from memlab.lab.load import load, resolve
    from memlab.lab.summary import summary

    try:
        return name, summary(load(resolve(name), sets=sets).lab)
    except (LabFileError, UsageError) as error:
        return name, error


def _plain(name: str, outcome: dict[str, Any] | LabFileError | UsageError) -> dict[str, Any]:
    if isinstance(outcome, dict):
        return {"file": name, "valid": True, "faults": [], "lab": outcome}
    if isinstance(outcome, UsageError):
        return {"file": name, "valid": False, "error": outcome.message, "fix": outcome.hint}
    faults = []
    for fault in outcome.faults:
        found = asdict(fault) | {"extra": dict(fault.extra)}
        # A fault without a place (of --set) has no line: an absent key, never 0.
        faults.append({key: value for key, value in found.items() if value not in (0, "", {})})
    return {"file": name, "valid": False, "faults": faults}
