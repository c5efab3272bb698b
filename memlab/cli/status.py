"""`memlab status`: the running lab, by layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click

from memlab.cli.words import say


@click.command(name="status")
@click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table")
def command(form: str) -> int:
    """Show the running lab: its phase, and each VM's memory by layer.

    Exit status 0, also if no lab runs; 4 if only root could tell, and cannot be asked.
    """
    from memlab.cli import running

    if running.hidden() and not _root_is_asked(form):
        return 4
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
    _addresses(status["addresses"])
    return 0


def _root_is_asked(form: str) -> bool:
    """Go on as root if sudo can be asked; else say in one sentence that it cannot be known."""
    from memlab.cli.asroot import become_root, typed_as_root
    from memlab.errors import HostError
    from memlab.kernel.rundir import place

    try:
        become_root([f"read the state of the running lab in {place()}; nothing is changed"])
    except HostError:
        words = f"only root can see whether a lab is running: {place()} is root's"
        if form == "json":
            click.echo(json.dumps({"schema_version": 1, "reason": words}))
        say(f"{words}; ask with: {typed_as_root('status')}")
        return False
    return True


def _addresses(addresses: Mapping[str, str]) -> None:
    from memlab.kernel.rundir import place
    from memlab.lab.network import NAME

    if addresses:
        click.echo("network: " + ", ".join(f"{name} {ip}" for name, ip in addresses.items()))
        click.echo(f"  from this host: nsenter --net={place() / NAME} ip address")


def _table(lab: str, phase: str, time: float, duration: float, recording: str) -> None:
    from rich.console import Console

    from memlab.live.screen import screen
    from memlab.record.derive import Derived

    console = Console(highlight=False)
    with Derived.open(Path(recording), check=False) as source:
        console.print(f"lab {lab}, {phase}, {time:.0f} of {duration:.0f} s; {recording}")
        width, rows = console.size.width, len(source.vms)
        console.print(screen(source, time, phase, "", width=width, rows=rows))
