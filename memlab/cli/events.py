"""`memlab events`: what happened in a run, as JSON lines."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command(name="events")
@click.argument("run", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--decisions", is_flag=True, help="The policy's decisions too, with their reasons.")
def command(run: Path | None, decisions: bool) -> int:
    """Print the events of RUN (a recording or a folder; the newest by default), one a line."""
    from memlab.record.derive import Derived

    with Derived.open(run or Path.cwd(), check=False) as source:
        rows = [("event", asdict(event)) for event in source.events()]
        if decisions:
            rows += [("decision", asdict(choice)) for choice in source.choices()]
    for what, row in sorted(rows, key=lambda one: float(one[1]["time"])):
        known = {key: value for key, value in row.items() if value not in (None, "")}
        click.echo(json.dumps({"what": what, **known}))
    return 0
