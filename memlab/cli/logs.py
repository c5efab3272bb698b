"""`memlab logs`: what a run or one of its programs has printed."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="logs")
@click.argument("vm", required=False)
@click.option("--run", type=click.Path(exists=True, path_type=Path), help="A run's folder or file.")
def command(vm: str | None, run: Path | None) -> int:
    """Print the newest run's log, or with VM what its program printed.

    The log of a VM with the miniature guest is what its agent said on its standard error, if it
    ended by itself; it is in the events of the run.
    """
    from memlab.errors import MemlabError
    from memlab.record.derive import Derived
    from memlab.record.store import find_run

    recording = find_run(run or Path.cwd())
    if vm is None:
        log = recording.with_name("lab.log")
        if log.exists():
            click.echo(log.read_text(errors="replace"), nl=False)
        with Derived.open(recording, check=False) as source:
            for event in source.events():
                click.echo(f"{event.time:8.2f} s  {event.kind:14} {event.vm:16} {dict(event.data)}")
        return 0
    log = recording.with_name(f"{vm}.log")
    if not log.exists():
        raise MemlabError(
            f"{vm} has no log in {recording.parent}",
            hint="only `command:` VMs print; a guest's last words are in memlab events",
        )
    click.echo(log.read_text(errors="replace"), nl=False)
    return 0
