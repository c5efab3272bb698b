"""`memlab up --box`: the same command in a box, and what it has to show out here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli.asroot import HANDED
from memlab.cli.verdict import show_recording
from memlab.cli.words import MANNER, is_terminal, say
from memlab.errors import UsageError

if TYPE_CHECKING:
    from memlab.lab.load import Loaded


def up_in_box(
    loaded: Loaded,
    lab: str | None,
    sets: Sequence[str],
    given: Mapping[str, bool],
    *,
    release: str,
    accelerator: str,
    time_scale: float | None,
    detach: bool,
    baseline: str | None,
    form: str,
    quiet: bool,
) -> int:
    """The exit status of the lab, run in a box; its outcome is shown as if it had run here."""
    from memlab.box.lab import Wish, run_lab
    from memlab.lab.place import VARIABLE
    from memlab.lab.session import Nobody
    from memlab.live.progress import Progress

    _refuse(detach, baseline, bool(os.environ.get(VARIABLE)))
    words = [*(f"--set={one}" for one in sets), *(name for name, on in given.items() if on)]
    wish = Wish(tuple(words), release, accelerator, time_scale)
    named = lab or str(loaded.name)
    if given["--dry-run"]:
        return run_lab(loaded, named, wish, None, variable=HANDED, say=say).status
    if quiet or MANNER.quiet:
        ran = run_lab(loaded, named, wish, Nobody(), variable=HANDED, say=say)
    else:
        with Progress(terminal=is_terminal(), stream=sys.stderr) as progress:
            ran = run_lab(loaded, named, wish, progress, variable=HANDED, say=progress.note)
    if ran.outcome is not None and form == "table":
        show_recording(Path(ran.outcome["recording"]))
    elif ran.outcome is not None:
        click.echo(ran.out.decode().rstrip("\n"))
    return ran.status


def _refuse(detach: bool, baseline: str | None, moved: bool) -> None:
    """UsageError for what does not go with a box."""
    if detach:
        raise UsageError(
            "a box ends with the command that has started it: --detach does not go with --box",
            hint="leave the terminal open, or use tmux, or nohup memlab up --box LAB &",
        )
    if baseline is not None:
        raise UsageError(
            "--baseline does not go with --box",
            hint="give it to the report: memlab report RUN --baseline OTHER",
        )
    if moved:
        raise UsageError(
            "MEMLAB_DIR does not go with --box, which shares the lab file's folder",
            hint="unset MEMLAB_DIR, or copy the lab file to the folder that it names",
        )
