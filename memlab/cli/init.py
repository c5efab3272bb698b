"""`memlab init [NAME]`: a commented lab file, and the schema beside it for the editor."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import click

from memlab.cli.words import say
from memlab.errors import UsageError


@click.command("init")
@click.argument("name", default="my-lab")
def command(name: str) -> int:
    """Write NAME.memlab.yaml into this directory; nothing is overwritten."""
    from memlab.lab.schema import schema
    from memlab.lab.values import is_name

    name = name.removesuffix(".yaml").removesuffix(".memlab")
    if not is_name(name):
        hint = "use 1 to 32 of a-z 0-9 _ -, beginning with a letter or digit"
        raise UsageError(f"{name!r} cannot be the name of a lab", hint=hint)
    text = (resources.files("memlab") / "lab" / "template.yaml").read_text("utf-8")
    path = Path(f"{name}.memlab.yaml")
    write_new(path, text.replace("NAME", name))
    beside = Path("memlab.schema.json")
    if not beside.exists():
        write_new(beside, json.dumps(schema(), indent=1, ensure_ascii=False) + "\n")
    say(f"wrote {path} and {beside}; next: memlab validate {path}")
    return 0


def write_new(path: Path, text: str) -> None:
    """Write a file that does not exist yet; UsageError if it does, or cannot be made."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        hint = "choose another name, or move it away"
        raise UsageError(f"{path} is there already, and is left as it is", hint=hint) from None
    except OSError as error:
        hint = "go to a directory that you may write to"
        raise UsageError(f"cannot write {path}: {error.strerror}", hint=hint) from None
