"""`memlab completion SHELL`: the script that teaches a shell the verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the completion script of SHELL.

    For bash: eval "$(memlab completion bash)" in ~/.bashrc.
    """
    from memlab.cli.main import root

    made = get_completion_class(shell)
    assert made is not None  # click has all three
    # Not `source()`: for bash that would start a shell to ask for its version.
    script = made(root, {}, "memlab", "_MEMLAB_COMPLETE")
    click.echo(script.source_template % script.source_vars())
    return 0
