"""`memlab down`: end the running lab."""

from __future__ import annotations

import click

from memlab.cli.words import say


@click.command(name="down")
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """Stop the running lab and give the host back. NAME, if given, must be its name."""
    from memlab.cli import running
    from memlab.cli.asroot import become_root
    from memlab.errors import UsageError
    from memlab.kernel.owner import last_restored

    become_root(["end the VMs of the running lab", "give back every knob that it turned"])
    running.give_back_the_dead()
    owner = running.needed()
    if name and name != owner.lab:
        raise UsageError(
            f"the running lab is called {owner.lab}, not {name}", hint="memlab status shows it"
        )
    running.end_running()
    say(f"{owner.lab} has ended; the host was given back")
    restored = last_restored()
    return 4 if restored is not None and restored.left else 0
