"""`memlab doctor`: what works on this machine, what it could run, and how to mend the rest."""

from __future__ import annotations

import json
import os
import textwrap
from typing import TYPE_CHECKING, Any

import click

from memlab.cli.words import say

if TYPE_CHECKING:
    from rich.console import Console

    from memlab.cli.diagnosis import Diagnosis


@click.command("doctor")
@click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table")
@click.option(
    "--deep",
    is_flag=True,
    help="As root, switch KSM and zswap on for a moment to see them work; all is given back.",
)
def command(form: str, deep: bool) -> int:
    """Say what works on this machine, what it could run, and how to mend what does not work.

    Everything is found by trying it, and nothing is left behind. Exit status 0 if labs of process
    VMs can run here, else 3.
    """
    from memlab.cli.asroot import become_root, must_have_power
    from memlab.cli.diagnosis import diagnose

    if deep:
        become_root(["switch KSM and zswap on for some seconds, as a lab does, and off again"])
        must_have_power()
    found = diagnose(deep=deep)
    if form == "json":
        click.echo(json.dumps(_plain(found)))
    else:
        _show(found)
    return 0 if found.can_run else 3


def _plain(found: Diagnosis) -> dict[str, Any]:
    """As JSON: what is not known is an absent key."""
    features = [
        {
            "feature": str(one.feature),
            **({} if one.works is None else {"works": one.works}),
            "found_by": one.how,
            "reason": one.reason,
            **({"repair": one.repair} if one.repair else {}),
            "affects": list(one.affects),
        }
        for one in found.findings
    ]
    labs = [
        {
            "lab": one.name,
            **({} if one.runs is None else {"runs": one.runs}),
            "missing": list(one.missing),
            "unknown": list(one.unknown),
        }
        for one in found.labs
    ]
    return {
        "schema_version": 1,
        "can_run": found.can_run,
        "root": os.geteuid() == 0,
        "machine": found.machine,
        "features": features,
        "labs": labs,
        "notes": list(found.notes),
    }


def _show(found: Diagnosis) -> None:
    from rich.console import Console

    from memlab.cli.diagnosis import TITLES
    from memlab.kernel.finding import Feature

    console = Console(highlight=False, soft_wrap=False)
    _wrapped(console, found.machine, "This machine: ")
    console.print()
    console.print(_table(found))
    console.print("\nWhat it could run", style="bold")
    for lab in found.labs:
        word = {True: "yes", False: "no", None: "perhaps"}[lab.runs]
        why = ""
        if lab.missing == (Feature.ROOT,) and os.geteuid() != 0:
            word = "as root"
        elif lab.missing:
            why = "missing: " + ", ".join(TITLES[name][0] for name in lab.missing)
        elif lab.unknown:
            why = "only root can tell: " + ", ".join(TITLES[name][0] for name in lab.unknown)
        _wrapped(console, why, f"  {word:8} {lab.name:14} ")
    console.print()
    for note in found.notes:
        _wrapped(console, note, "- ")
    if found.can_run:
        say("\nLabs of process VMs can run here. Begin with: memlab up quickstart")
    else:
        say("\nLabs cannot run here yet: see the fixes above. Reports can: memlab report --example")


def _wrapped(console: Console, text: str, head: str) -> None:
    """A paragraph that hangs below its head."""
    rest = " " * len(head)
    width = max(console.width, 40)
    lines = textwrap.wrap(text, width, initial_indent=head, subsequent_indent=rest)
    for line in lines or [head.rstrip()]:
        console.print(line, markup=False, soft_wrap=True)


def _table(found: Diagnosis) -> Any:
    from rich.table import Table
    from rich.text import Text

    from memlab.cli.diagnosis import AS_ROOT_WORDS, TITLES

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("mechanism", max_width=26)
    table.add_column("works", no_wrap=True)
    table.add_column("what was found, where and how")
    words = {True: ("yes", "green"), False: ("NO", "red"), None: ("not known", "yellow")}
    for one in found.findings:
        title, place = TITLES[one.feature]
        word, colour = words[one.works]
        cell = Text(one.reason)
        at = f"{place}: " if place and place not in one.how else ""
        cell.append(f"\n{at}{one.how}", style="dim")
        if one.works is not True:
            cell.append(f"\nneeded for: {'; '.join(one.affects)}", style="dim")
        if one.works is None and one.repair.startswith(AS_ROOT_WORDS):
            cell.append("\nfix: let root look, see below", style="bold")
        elif one.repair:
            cell.append(f"\nfix: {one.repair}", style="bold")
        table.add_row(f"{title} ({one.feature})", Text(word, style=colour), cell)
    return table
