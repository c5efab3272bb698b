"""What `up` says at the end: the table of what each mechanism saved and cost, and the verdict."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli.words import say

if TYPE_CHECKING:
    from memlab.lab.outcome import RunOutcome


def show_outcome(outcome: RunOutcome, *, baseline: Path | None, form: str) -> None:
    """The verdict of a run, as a table or as JSON, and where its recording is."""
    if form == "json":
        facts = {**asdict(outcome), "recording": str(outcome.recording)}
        click.echo(json.dumps({"schema_version": 1, **facts}, default=str))
        return
    from rich.console import Console

    from memlab.record.derive import Derived
    from memlab.report.table import summary

    with ExitStack() as stack:
        source = stack.enter_context(Derived.open(outcome.recording))
        other = stack.enter_context(Derived.open(baseline)) if baseline else None
        Console(highlight=False).print(summary(source, other))
    say(f"recording: {outcome.recording}")
    say(f"report:    memlab report {outcome.recording.parent}")
