"""`memlab status`: the running lab, by layer."""

from __future__ import annotations

import json
from pathlib import Path

import click

from memlab.cli.words import say


@click.command(name="status")
@click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table")
def command(form: str) -> int:
    """Show the running lab: its phase, and each VM's memory by layer. Exit 0, also if none runs."""
    from memlab.cli import running
    from memlab.cli.asroot import become_root

    become_root(["read the state of the running lab in /run/memlab; nothing is changed"])
    owner = running.running()
    if owner is None:
        if form == "json":
            click.echo(json.dumps({"schema_version": 1, "running": False}))
        else:
            say("no lab is running")
        return 0
    status = running.tell({"verb": "status"})
    if form == "json":
        click.echo(json.dumps({"schema_version": 1, "running": True, **status}))
        return 0
    _table(owner.lab, status["phase"], status["time"], status["duration"], status["recording"])
    return 0


def _table(lab: str, phase: str, time: float, duration: float, recording: str) -> None:
    from rich.console import Console

    from memlab.live.screen import screen
    from memlab.record.derive import Derived

    console = Console(highlight=False)
    with Derived.open(Path(recording), check=False) as source:
        console.print(f"lab {lab}, {phase}, {time:.0f} of {duration:.0f} s; {recording}")
        width, rows = console.size.width, len(source.vms)
        console.print(screen(source, time, phase, "", width=width, rows=rows))
