"""`memlab examples`: the labs that come with memlab."""

from __future__ import annotations

import json
from pathlib import Path

import click

from memlab.cli.init import write_new
from memlab.cli.words import say


@click.group("examples", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> int:
    """List the bundled labs, or copy one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_examples)
    return 0


@command.command("list")
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text")
def list_examples(form: str = "text") -> int:
    """Print each bundled lab with its question, its VMs and what it needs."""
    from memlab.lab.load import bundled, load
    from memlab.lab.summary import summary

    labs = [load(path).lab for path in bundled()]
    if form == "json":
        rows = [summary(lab) | {"about": lab.about} for lab in labs]
        click.echo(json.dumps({"schema_version": 1, "examples": rows}))
        return 0
    for lab in labs:
        budget, seconds = lab.host.memory >> 20, round(lab.duration)
        size = f"{len(lab.vms)} VMs, {budget} MiB, {seconds} s"
        click.echo(f"{lab.name:14} {size:22} {lab.about or ''}")
    say("run one with `memlab up NAME`, or copy it with `memlab examples copy NAME`")
    return 0


@command.command("copy")
@click.argument("name")
@click.argument("to", required=False, type=click.Path(path_type=Path))
def copy_example(name: str, to: Path | None) -> int:
    """Copy a bundled lab to TO, or to NAME.memlab.yaml here; nothing is overwritten."""
    from memlab.lab.load import example

    path = to or Path(f"{name}.memlab.yaml")
    write_new(path, example(name).read_text("utf-8"))
    say(f"wrote {path}; next: memlab validate {path}")
    return 0
