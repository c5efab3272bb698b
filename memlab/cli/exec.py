"""`memlab exec`: reach the inside of a VM."""

from __future__ import annotations

import json
import sys

import click


@click.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.argument("vm")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
def command(vm: str, words: tuple[str, ...]) -> int:
    """Run a command in VM of the running lab: memlab exec web-1 -- stats.

    In a VM with the miniature guest these are the guest's own: stats, verify, free SIZE,
    balloon SIZE; a QEMU guest on the lab's network has ping VM too. In a `command:` VM any program,
    which runs in the VM's cgroup.
    """
    from memlab.cli import running
    from memlab.cli.asroot import become_root

    become_root([f"run {' '.join(words)!r} in VM {vm} of the running lab"])
    answer = running.tell({"verb": "exec", "vm": vm, "command": list(words)}, timeout=130.0)
    if "output" in answer:
        sys.stdout.write(answer["output"])
        return int(answer["status"])
    click.echo(json.dumps(answer["answer"], indent=2))
    return 0
