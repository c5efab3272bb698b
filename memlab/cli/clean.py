"""`memlab clean`: undo what a dead run has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from memlab.cli.words import say

if TYPE_CHECKING:
    from memlab.kernel.restored import Restored


@click.command(name="clean")
@click.option("--force", is_flag=True, help="Also what somebody else has changed meanwhile.")
@click.option(
    "--forget", is_flag=True, help="Give up on what cannot be undone; its journal is kept aside."
)
def command(force: bool, forget: bool) -> int:
    """Undo from its journal what a dead run has left: knobs, swap areas, cgroups, processes.

    A running lab is left alone (`memlab down` ends it). Exit status 4 if something was left
    because somebody else has changed it, or because it was given up with --forget.
    """
    from memlab.cli import running
    from memlab.cli.asroot import become_root
    from memlab.errors import OwnedError
    from memlab.kernel.owner import recover, restore_left

    become_root(["undo what the journal in /run/memlab names, and nothing else"])
    owner = running.running()
    if owner is not None:
        raise OwnedError(f"lab {owner.lab} is running", hint=f"end it: memlab down {owner.lab}")
    restored = restore_left() if force else recover()
    if restored is None:
        say("there is nothing to clean up")
        return 0
    for fact in restored.given_back:
        click.echo(fact)
    for left in restored.left:
        click.echo(f"left: {left}")
    if forget and not restored.ok:
        return _give_up(restored)
    restored.check()
    return 4 if restored.left else 0


def _give_up(restored: Restored) -> int:
    """Put the journal aside though it is not undone, and say what stays as it is."""
    from memlab.kernel.owner import FORGOTTEN, forget
    from memlab.kernel.rundir import place

    forget()
    for failed in restored.failed:
        click.echo(f"given up: {failed}")
    say("warning: memlab will not try to undo this again. The next lab takes the host as it is now")
    say(f"for the state to give back. What was changed stands in {place() / FORGOTTEN}")
    return 4
