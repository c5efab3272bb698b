"""`memlab clean`: undo what a dead run has left."""

from __future__ import annotations

import click

from memlab.cli.words import say


@click.command(name="clean")
@click.option("--force", is_flag=True, help="Also what somebody else has changed meanwhile.")
def command(force: bool) -> int:
    """Undo from its journal what a dead run has left: knobs, swap areas, cgroups, processes.

    A running lab is left alone (`memlab down` ends it). Exit status 4 if something was left
    because somebody else has changed it.
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
    restored.check()
    return 4 if restored.left else 0
