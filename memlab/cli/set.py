"""`memlab set`: change something in the running lab."""

from __future__ import annotations

import click


@click.command(name="set")
@click.argument("settings", nargs=-1, metavar="[PATH=VALUE]...")
def command(settings: tuple[str, ...]) -> int:
    """Set PATH=VALUE in the running lab; each change is in its recording.

    For example: memlab set vms.web-1.balloon=64MiB mechanisms.tps.enabled=off. Without
    arguments it lists what can be set.
    """
    from memlab.cli import running
    from memlab.cli.asroot import become_root
    from memlab.errors import UsageError
    from memlab.lab.settable import settable
    from memlab.lab.yamlfile import read

    if not settings:
        for row in settable():
            if row.live:
                click.echo(f"{row.path:36} {row.written:16} {row.meaning}")
        return 0
    pairs = {}
    for text in settings:
        path, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} has no value", hint="write PATH=VALUE")
        found = read(value)
        for fault in found.faults:
            raise UsageError(f"{text}: {fault.message}", hint=fault.fix)
        pairs[path.strip()] = found.tree
    become_root([f"set {path} of the running lab to {value}" for path, value in pairs.items()])
    answer = running.tell({"verb": "set", "settings": pairs})
    for line in answer["done"]:
        click.echo(line)
    return 0
