"""`memlab export`: a recording as csv, JSON lines or Parquet."""

from __future__ import annotations

from pathlib import Path

import click

from memlab.cli.words import say


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path), default=Path())
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="csv if not given, or what OUT ends in.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A directory for all tables, or a file for the VMs' fast columns alone.",
)
@click.option("--raw", is_flag=True, help="What the kernel said, not what was derived from it.")
def command(run: Path, form: str | None, output: Path | None, raw: bool) -> None:
    """Write a recording as csv, jsonl or parquet.

    RUN is a recording, a run's directory, or a lab's directory (its newest run).
    """
    from memlab.record.derive import Derived
    from memlab.record.export import Format, export
    from memlab.record.store import find_run

    path = find_run(run)
    if form is None:
        ending = output.suffix.removeprefix(".") if output else ""
        form = ending if ending in list(Format) else "csv"
    with Derived.open(path) as source:
        for made in export(source, output or path.with_suffix(""), Format(form), raw=raw):
            click.echo(made)
    say("bytes and seconds; docs/measuring.md says what each column means")
