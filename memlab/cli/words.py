"""How the commands speak: data on stdout, everything else on stderr, errors with their repair."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass

import click

from memlab.errors import Fault, LabFileError, MemlabError


@dataclass(slots=True)
class Manner:
    """How much is said: `--quiet` leaves results and errors, `--verbose` says where one arose."""

    quiet: bool = False
    verbose: bool = False


MANNER = Manner()
"""Of this process; the group of verbs sets it."""


def say(text: str = "") -> None:
    """A line of progress or explanation, on stderr."""
    if not MANNER.quiet:
        _tell(text)


def _tell(text: str = "") -> None:
    # None lets click look whether stderr is a terminal.
    click.echo(text, err=True, color=False if os.environ.get("NO_COLOR") else None)


def show_error(error: MemlabError) -> None:
    """The error, and what can be done about it, on stderr."""
    head = click.style("error:", fg="red", bold=True)
    _tell(f"{head} {error.message}")
    if isinstance(error, LabFileError):
        lines = error.source.splitlines()
        for fault in error.faults:
            _tell()
            _tell(render_fault(error.name, fault, lines))
    if error.hint:
        _tell(f"{click.style('fix:', bold=True)} {error.hint}")
    if MANNER.verbose:
        _tell("".join(traceback.format_exception(error)).rstrip())


def render_fault(name: str, fault: Fault, lines: list[str]) -> str:
    """Headline with code, `file:line:column`, the line with a caret, and the fix."""
    text = [f"{click.style(fault.code, bold=True)} {fault.message}"]
    if fault.line:
        text.append(f"  --> {name}:{fault.line}:{fault.column}")
    if 0 < fault.line <= len(lines):
        number = str(fault.line)
        source = lines[fault.line - 1].expandtabs(1)
        text.append(f"  {number} | {source[:160]}")
        text.append(f"  {' ' * len(number)} | {' ' * (fault.column - 1)}^")
    text.append(f"  {click.style('fix:', bold=True)} {fault.fix}")
    return "\n".join(text)


def is_terminal() -> bool:
    """Whether progress can redraw."""
    return sys.stderr.isatty()
