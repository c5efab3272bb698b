"""`memlab schema`: what an editor needs to help with lab files."""

from __future__ import annotations

import json

import click


@click.command("schema")
def command() -> int:
    """Print the JSON Schema of lab files (draft 2020-12)."""
    from memlab.lab.schema import schema

    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))
    return 0
