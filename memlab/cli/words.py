"""How the commands speak: data on stdout, everything else on stderr, errors with their repair."""

from __future__ import annotations

import sys

import click

from memlab.errors import Fault, LabFileError, MemlabError


def say(text: str = "") -> None:
    """A line of progress or explanation, on stderr."""
    click.echo(text, err=True)


def show_error(error: MemlabError) -> None:
    """The error, and what can be done about it, on stderr."""
    head = click.style("error:", fg="red", bold=True)
    say(f"{head} {error.message}")
    if isinstance(error, LabFileError):
        lines = error.source.splitlines()
        for fault in error.faults:
            say()
            say(render_fault(error.name, fault, lines))
    if error.hint:
        say(f"{click.style('fix:', bold=True)} {error.hint}")


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
