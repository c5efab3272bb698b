"""A command in a box of its own, in the current folder: what `box run` and `box shell` do."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from memlab.box import cache, machine, recipe
from memlab.box.build import up_to_date
from memlab.box.client import Running, environment, own_streams
from memlab.box.mirror import Landing
from memlab.box.qemu import Hardware
from memlab.errors import HostError, UsageError

_SYSTEM: Final = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr")


def run_here(
    release: str,
    hardware: Hardware,
    words: Sequence[str],
    *,
    terminal: bool = False,
    say: Callable[[str], None],
) -> int:
    """The status of `words`, run in a box; what they wrote below the current folder is here."""
    folder = shareable(Path.cwd())
    box = up_to_date(recipe.Release(release), say=say)
    with (
        cache.locked(release, alone=False),
        machine.start(box, hardware, share=folder, say=say) as started,
    ):
        landing = Landing(folder)
        running = Running(started, own_streams(), landing=landing)
        size = shutil.get_terminal_size()
        with _as_it_is_typed(running) if terminal else nullcontext():
            return running.run(
                words,
                cwd=folder,
                env=environment(machine.told(box, hardware)),
                terminal=(size.lines, size.columns) if terminal else None,
            )


def shareable(folder: Path) -> Path:
    """`folder`; UsageError if a box would lose its own files under it."""
    parts = folder.resolve().parts[1:]
    if not parts or parts[0] in _SYSTEM or parts in (("var",), ("var", "tmp"), ("home",)):
        raise UsageError(
            f"{folder} cannot be shared with a box, which has one of its own",
            hint="change to a folder of yours: mkdir lab && cd lab",
        )
    if "\n" in str(folder) or ":" in str(folder):
        raise HostError(
            f"a box cannot mount a folder of this name: {folder}", hint="choose another folder"
        )
    return folder


@contextmanager
def _as_it_is_typed(running: Running) -> Iterator[None]:
    """This terminal hands on every key, and its size when that changes."""
    before = termios.tcgetattr(sys.stdin)
    resized = signal.signal(
        signal.SIGWINCH, lambda *_: running.resize(*reversed(os.get_terminal_size()))
    )
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        signal.signal(signal.SIGWINCH, resized)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
