"""`memlab report`: what each mechanism saved and what it cost, from a recording."""

from __future__ import annotations

import io
import json
import sys
import webbrowser
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import click

from memlab.cli.words import say
from memlab.errors import MemlabError, RecordingError, UsageError
from memlab.record.series import Source

EXAMPLE: Final = "example.memlab"


@click.command("report")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here; - is stdout.")
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
@click.option("--example", is_flag=True, help="Show the quickstart run that comes with memlab.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="A run without pressure, to hold operations and latency against.",
)
@click.option(
    "-f",
    "--format",
    "kind",
    type=click.Choice(["html", "table", "json"]),
    default="html",
    show_default=True,
    help="An offline page, a table for the terminal, or figures for programs.",
)
def command(
    *,
    run: Path | None,
    output: Path | None,
    show: bool,
    example: bool,
    baseline: Path | None,
    kind: str,
) -> None:
    """Show what each mechanism saved and what it cost.

    RUN is a recording, a run's directory or a lab's directory (its newest run); without it, the
    newest run below the current directory. The page needs no network; its path is printed.
    """
    if example and run is not None:
        raise UsageError("--example is a run of its own", hint="leave out RUN, or --example")
    with ExitStack() as stack:
        source = open_run(example_run(stack) if example else run or Path(), stack)
        held = None if baseline is None else open_run(baseline, stack)
        if kind == "table":
            _print_table(source, held, output)
            return
        if kind == "json":
            from memlab.report.figures import figures

            _write(json.dumps(figures(source, held), indent=2) + "\n", output or Path("-"))
            return
        from memlab.report.html import page

        path = output or _place(run or Path(), example=example)
        _write(page(source, held), path)
    if path != Path("-"):
        click.echo(path)
        if show or (example and output is None and sys.stdout.isatty()):
            _open(path)


def open_run(path: Path, stack: ExitStack) -> Source:
    """The run at `path`, closed when `stack` is."""
    from memlab.record.derive import Derived

    return stack.enter_context(Derived.open(path))


def example_run(stack: ExitStack) -> Path:
    """The recording that comes with memlab."""
    found = files("memlab.report").joinpath(EXAMPLE)
    if not found.is_file():
        raise RecordingError(
            "this memlab came without its example recording",
            hint="install a release of memlab, or make a run: memlab up quickstart",
        )
    return stack.enter_context(as_file(found))


def _place(run: Path, *, example: bool) -> Path:
    """Beside the recording; the example's page in the current directory, since the package may
    belong to somebody else."""
    if example:
        return Path("memlab-example.html")
    from memlab.record.store import find_run

    recording = find_run(run)
    return recording.with_name("report.html")


def _write(text: str, path: Path) -> None:
    if path == Path("-"):
        sys.stdout.write(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MemlabError(
            f"cannot write {path}: {error.strerror}", hint="give another place with -o FILE"
        ) from error


def _print_table(source: Source, baseline: Source | None, output: Path | None) -> None:
    from rich.console import Console

    from memlab.report.table import summary

    view = summary(source, baseline)
    if output is None or output == Path("-"):
        Console(highlight=False).print(view)
        return
    text = io.StringIO()
    Console(file=text, highlight=False, width=100).print(view)
    _write(text.getvalue(), output)


def _open(path: Path) -> None:
    if not webbrowser.open(path.absolute().as_uri()):
        say("no browser could be opened here; open the file above in one")
