"""Root, asked for once and before anything else: the same command again, through sudo.

sudo is given the absolute interpreter and `-m memlab`, because its secure path drops the folders
in which pipx and uv put commands.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable

from memlab.cli.words import say
from memlab.errors import HostError


def become_root(what: Iterable[str]) -> None:
    """Return if we are root; else say what root will do and run this command through sudo."""
    if os.geteuid() == 0:
        return
    sudo = shutil.which("sudo")
    if sudo is None:
        raise HostError(
            "this needs root, and there is no sudo on this machine",
            hint=f"as root, run: {sys.executable} -m memlab {' '.join(sys.argv[1:])}",
        )
    say("As root, memlab will:")
    for line in what:
        say(f"  - {line}")
    kept = sorted(name for name in os.environ if name.startswith("MEMLAB_"))
    keep = [f"--preserve-env={','.join(kept)}"] if kept else []
    sys.stderr.flush()
    os.execv(sudo, [sudo, *keep, "--", sys.executable, "-m", "memlab", *sys.argv[1:]])
