"""`memlab why`: what a policy decided at a moment of a run, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command("why")
@click.argument("run", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--at", "moment", metavar="TIME", help="The moment, such as 12s.")
@click.option("--vm", default="", metavar="NAME", help="What is about this VM alone.")
@click.option(
    "-f",
    "--format",
    "kind",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Sentences, or an object for programs.",
)
def command(run: Path | None, moment: str | None, vm: str, kind: str) -> int:
    """Tell what the policy of RUN saw and decided at TIME, and what it left alone, with reasons.

    RUN is a recording or a folder (the newest run by default). Without --at, the run at a glance.
    """
    from memlab.record.derive import Derived
    from memlab.report import why

    with Derived.open(run or Path.cwd(), check=False) as source:
        if vm and vm not in source.vms:
            known = ", ".join(source.vms)
            raise click.UsageError(f"no VM of this run is called {vm!r}; it has: {known}")
        found = why.moments(source)
    if moment is None:
        lines = list(why.overview(found)) or ["no policy has decided anything in this run"]
        click.echo("\n".join(lines))
        return 0
    one = why.at(found, _seconds(moment))
    if kind == "json":
        click.echo(json.dumps({"schema_version": 1, "moment": _plain(asdict(one))}, indent=2))
    else:
        click.echo("\n".join(why.tell(one, vm)))
    return 0


def _seconds(text: str) -> float:
    from memlab.errors import UsageError
    from memlab.units import UnitError, parse_duration

    try:
        return parse_duration(text)
    except UnitError as error:
        raise UsageError(f"--at: {error}", hint=error.fix) from None


def _plain(value: object) -> object:
    """For JSON: what is not known is left out."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return sorted(value) if isinstance(value, frozenset) else value
