"""`memlab version`: which memlab, on what."""

from __future__ import annotations

import json
import platform
from importlib import metadata

import click


@click.command("version")
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text")
def command(form: str) -> int:
    """Print the version of memlab, Python and the kernel."""
    found = {
        "memlab": memlab_version(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    if form == "json":
        known = {key: value for key, value in found.items() if value is not None}
        click.echo(json.dumps({"schema_version": 1, **known}))
    else:
        number = found["memlab"] or "(a checkout that is not installed)"
        click.echo(f"memlab {number}, Python {found['python']}, Linux {found['kernel']}")
    return 0


def memlab_version() -> str | None:
    """The installed version, None in a checkout that is not installed."""
    try:
        return metadata.version("memlab")
    except metadata.PackageNotFoundError:
        return None
