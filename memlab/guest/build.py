"""Where the guest agent's binary is, and how it is compiled.

An installed memlab carries the binary in `memlab/_bin`; a checkout compiles it there when it is
missing or older than its sources. `hatch_build.py` loads this file alone, before memlab is
installed, so it imports nothing but the standard library at module level.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).resolve().parent / "agent"
BINARY: Final = SOURCES.parent.parent / "_bin" / "memlab-agent"

FLAGS: Final = ("-std=gnu11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror")
ZIG_TARGETS: Final = {"x86_64": "x86_64-linux-musl", "aarch64": "aarch64-linux-musl"}
_REPAIR: Final = (
    "install one: sudo apt install gcc libc6-dev\n"
    "(or, where nothing can be installed: pip install ziglang)"
)


class BuildError(RuntimeError):
    """The agent could not be compiled; the text says why and what to install."""


def agent_path() -> Path:
    """The agent's binary, compiled first where only its sources are there.

    Raises HostError with the repair if there is neither a binary nor a compiler.
    """
    from memlab.errors import HostError

    if is_current(BINARY):
        return BINARY
    try:
        return compile_agent(BINARY)
    except BuildError as error:
        what, _, repair = str(error).partition("\n")
        raise HostError(f"the guest agent is not built: {what}", hint=repair) from error


def is_current(binary: Path) -> bool:
    """Whether `binary` is there and no source is newer (an installed one is never rebuilt)."""
    if not os.access(binary, os.X_OK):
        return False
    if not os.access(binary.parent, os.W_OK) or "site-packages" in binary.parts:
        return True
    built = binary.stat().st_mtime
    return all(source.stat().st_mtime <= built for source in SOURCES.glob("*.[ch]"))


def compile_agent(binary: Path, *, machine: str | None = None) -> Path:
    """Compile the agent to `binary` for `machine` (default: this one); BuildError if it fails.

    The file appears at once and whole, so that several tests or labs may start together.
    """
    command = compiler(machine or platform.machine())
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        made = Path(folder) / "agent"
        sources = sorted(str(source) for source in SOURCES.glob("*.c"))
        _run([*command, *FLAGS, "-o", str(made), *sources, "-lm"])
        made.chmod(0o755)
        _give_to_owner_of(SOURCES, made, binary.parent)
        made.replace(binary)
    return binary


def _give_to_owner_of(source: Path, *made: Path) -> None:
    """What root compiles in a user's checkout is the user's, or the user could not replace it."""
    if os.geteuid() == 0:
        owner = source.stat()
        for path in made:
            os.chown(path, owner.st_uid, owner.st_gid)


def compiler(machine: str) -> tuple[str, ...]:
    """Command line of a C compiler for `machine`: `cc` for this one, else the ziglang wheel."""
    if machine == platform.machine() and (found := shutil.which(os.environ.get("CC", "cc"))):
        return (found,)
    if importlib.util.find_spec("ziglang") is None:
        which = "C compiler" if machine == platform.machine() else f"compiler for {machine}"
        raise BuildError(f"there is no {which}\n{_REPAIR}")
    if machine not in ZIG_TARGETS:
        raise BuildError(f"no target is known for {machine}\nknown: {', '.join(ZIG_TARGETS)}")
    return (sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGETS[machine])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr or done.stdout).strip()
        raise BuildError(f"{command[0]} failed: {why[:2000]}\n{_REPAIR}")
