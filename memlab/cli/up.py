"""`memlab up`: run a lab."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli.words import MANNER, is_terminal, say
from memlab.errors import HostError, MemlabError

if TYPE_CHECKING:
    from memlab.lab.prepare import Prepared


@click.command(name="up")
@click.argument("lab", required=False)
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Change a value of the file.")
@click.option("-d", "--detach", is_flag=True, help="Run in the background; see `memlab status`.")
@click.option("--dry-run", is_flag=True, help="Print every change of the host, old → new.")
@click.option("--replace", is_flag=True, help="End the lab that runs now, and take its place.")
@click.option("--recreate", is_flag=True, help="Begin anew though this lab runs already.")
@click.option("--i-know", is_flag=True, help="Run though the worst case would not fit.")
@click.option("--baseline", type=click.Path(exists=True), help="A run to hold the cost against.")
@click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table")
@click.option("-q", "--quiet", is_flag=True, help="No progress, only the verdict.")
@click.option("--time-scale", type=click.FloatRange(0.1, 100), help="Multiply all times of LAB.")
@click.option("--box", is_flag=True, help="Run it in a box: no root, no risk for this host.")
@click.option("--box-release", default="trixie", metavar="NAME", help="Of which Debian.")
@click.option("--box-accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto")
@click.option("--notes", is_flag=True, hidden=True)
def command(
    lab: str | None,
    sets: tuple[str, ...],
    detach: bool,
    dry_run: bool,
    replace: bool,
    recreate: bool,
    i_know: bool,
    baseline: str | None,
    form: str,
    quiet: bool,
    time_scale: float | None,
    box: bool,
    box_release: str,
    box_accel: str,
    notes: bool,
) -> int:
    """Run LAB: a lab file, the name of a bundled lab, or `-` for standard input.

    Without LAB the one *.memlab.yaml of the current folder is taken. Exit status: 0 every
    expectation holds, 1 one failed or the run is invalid, 2 a fault in the lab file, 3 this host
    cannot run it, 4 inconclusive, 130 interrupted.
    """
    from memlab.cli.asroot import become_root, lab_environment, must_have_power
    from memlab.cli.background import detached
    from memlab.cli.here import the_one_here
    from memlab.lab.load import load, resolve
    from memlab.lab.prepare import prepare
    from memlab.lab.stretch import stretch

    loaded = load(resolve(lab) if lab else the_one_here(), sets=sets, environ=lab_environment())
    if box:
        from memlab.cli.upbox import up_in_box

        given = {"--dry-run": dry_run, "--i-know": i_know}
        return up_in_box(
            loaded, lab, sets, given, release=box_release, accelerator=box_accel,
            time_scale=time_scale, detach=detach, baseline=baseline, form=form, quiet=quiet,
        )  # fmt: skip
    if time_scale is not None:
        loaded = stretch(loaded, time_scale)
    prepared = prepare(loaded, i_know=i_know)
    if dry_run:
        for line in (*prepared.plan.lines(), *prepared.sums.lines()):
            click.echo(line)
        return 0
    if lab == "-" and os.geteuid() != 0:
        raise HostError(
            "a lab from standard input cannot be read again by root",
            hint="write it to a file, or run the command as root",
        )
    become_root(prepared.plan.lines(), variables=loaded.variables)
    must_have_power()
    if _runs_already(prepared, replace=replace, recreate=recreate):
        return 0
    if detach:
        return detached(prepared)
    return attended(prepared, baseline, form, quiet, notes)


def _runs_already(prepared: Prepared, *, replace: bool, recreate: bool) -> bool:
    """Whether this very lab runs already (its status is shown). Another one is refused."""
    from memlab.cli import running

    running.give_back_the_dead()
    owner = running.running()
    if owner is None:
        return False
    if replace or (recreate and owner.lab == prepared.loaded.lab.name):
        running.end_running()
        return False
    if owner.lab != prepared.loaded.lab.name:
        running.refuse_second()
    status = running.tell({"verb": "status"})
    if status["digest"] != prepared.digest:
        raise MemlabError(
            f"lab {owner.lab} runs already, from a lab file that says something else",
            hint="change the running one: memlab set PATH=VALUE; or begin anew: up --recreate",
        )
    say(f"{owner.lab} runs already: {status['phase']}, {status['time']:.0f} s")
    return True


def attended(
    prepared: Prepared, baseline: str | None, form: str, quiet: bool, notes: bool = False
) -> int:
    """Run it in the foreground, show it while it runs, then the verdict."""
    from memlab.cli.verdict import show_outcome
    from memlab.lab.session import Nobody, Session
    from memlab.live.progress import Notes, Progress
    from memlab.record.derive import Derived
    from memlab.report.verdict import as_baseline

    held_against = None
    if baseline:
        with Derived.open(Path(baseline)) as other:
            held_against = as_baseline(other)
    if notes:
        outcome = Session(prepared, Notes(), baseline=held_against).run()
    elif quiet or MANNER.quiet:
        outcome = Session(prepared, Nobody(), baseline=held_against).run()
    else:
        with Progress(terminal=is_terminal(), stream=sys.stderr) as progress:
            outcome = Session(prepared, progress, baseline=held_against).run()
    show_outcome(outcome, form=form)
    return outcome.exit_code
