"""Root, asked for once and before anything else: the same command again, through sudo.

sudo is given the absolute interpreter and `-m memlab`, because its secure path drops the folders
in which pipx and uv put commands. Of the environment go along: MEMLAB_*, NO_COLOR, and the
variables that the lab file has used, as values in a variable of ours. So no name of theirs
(LD_PRELOAD, PYTHONPATH, HOME) means anything to root's process.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import site
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from memlab.cli.words import say
from memlab.errors import HostError

HANDED: Final = "MEMLAB_HANDED_VARIABLES"
"""The lab file's variables as JSON, from the user's process to root's."""


def become_root(what: Iterable[str], *, variables: Mapping[str, str] | None = None) -> None:
    """Return if we are root; else say what root will do and run this command through sudo.

    `variables` are those that a lab file has used. HostError, with what to type, if there is no
    sudo, if it would ask for a password with no terminal, or if root's Python would not find us.
    """
    if os.geteuid() == 0:
        return
    sudo = shutil.which("sudo")
    if sudo is None:
        raise HostError(
            "this needs root, and there is no sudo on this machine",
            hint=f"become root and run it there: {typed_as_root()}",
        )
    if only_users_site():
        raise HostError(
            f"memlab is installed for this user alone ({package()}): root's Python cannot find it",
            hint="install it with pipx or in a virtual environment: pipx install memlab",
        )
    _ask_now_or_never(sudo)
    say("As root, memlab will:")
    for line in what:
        say(f"  - {line}")
    os.environ.pop(HANDED, None)
    if variables is not None:
        os.environ[HANDED] = json.dumps(dict(variables))
    kept = sorted(name for name in os.environ if name.startswith("MEMLAB_") or name == "NO_COLOR")
    keep = [f"--preserve-env={','.join(kept)}"] if kept else []
    sys.stderr.flush()
    os.execv(sudo, [sudo, *keep, "--", *interpreter(), *sys.argv[1:]])


def lab_environment() -> Mapping[str, str]:
    """What `${…}` of a lab file is filled in from: as the user who typed the command has it."""
    handed = os.environ.get(HANDED) if os.geteuid() == 0 else None
    if handed is None:
        return os.environ
    return {str(name): str(value) for name, value in json.loads(handed).items()}


def must_have_power() -> None:
    """HostError if this is root without the rights of root, as in most containers."""
    from memlab.kernel.files import HOST
    from memlab.kernel.probe_host import probe_root

    found = probe_root(HOST)
    if os.geteuid() == 0 and found.works is False:
        raise HostError(f"memlab cannot work here: {found.reason}", hint=found.repair)


def interpreter() -> list[str]:
    """The words that start this memlab from anywhere, as root.

    -P keeps the current folder out of it; -B leaves no bytecode of root's in a user's checkout.
    """
    return [sys.executable, "-PB", "-m", "memlab"]


def command_line(*words: str) -> str:
    """The command to type as root: of this very call, or of `words`."""
    return shlex.join([*interpreter(), *(words or sys.argv[1:])])


def typed_as_root(*words: str) -> str:
    """The command for a shell of this user that runs memlab with `words` as root."""
    plain = command_line(*words)
    if os.geteuid() == 0:
        return plain
    return f"sudo {plain}" if shutil.which("sudo") else f"su -c {shlex.quote(plain)}"


def package() -> Path:
    """The folder in which this memlab lies."""
    return Path(__file__).parents[1]


def only_users_site() -> bool:
    """Whether memlab lies in the user's own site-packages (`pip install --user`)."""
    own = site.getusersitepackages()
    return bool(site.ENABLE_USER_SITE) and package().is_relative_to(own)


def _ask_now_or_never(sudo: str) -> None:
    """HostError if sudo would have to ask for a password, and there is nobody to ask."""
    if _has_terminal() or os.environ.get("SUDO_ASKPASS"):
        return
    asked = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False)
    if asked.returncode:
        raise HostError(
            "sudo would ask for a password, and there is no terminal to ask on",
            hint=f"run it in a terminal, or as root: {command_line()}",
        )


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
