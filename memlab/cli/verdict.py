"""What `up` says at the end: the table of what each mechanism saved and cost, and the verdict."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli.words import say

if TYPE_CHECKING:
    from memlab.lab.outcome import RunOutcome


def show_outcome(outcome: RunOutcome, *, form: str) -> None:
    """The verdict of a run, as a table or as JSON, and where its recording is."""
    if form == "json":
        facts = {**asdict(outcome), "recording": str(outcome.recording)}
        click.echo(json.dumps({"schema_version": 1, **facts}, default=str))
        return
    show_recording(outcome.recording)


def show_recording(recording: Path) -> None:
    """The table of a finished run, and where its recording is."""
    from rich.console import Console

    from memlab.record.derive import Derived
    from memlab.report.table import summary

    with Derived.open(recording) as source:
        Console(highlight=False).print(summary(source))
    say(f"recording: {recording}")
    say(f"report:    memlab report {recording.parent}")
