"""Kernels for micro-guests: where they come from, and what is kept of them.

In this order: the one that the lab names, one already kept, the host's own in /boot, the
distribution's own for virtual machines, fetched with its package manager.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.errors import HostError
from memlab.guest import bzimage

Say = Callable[[str], None]

BOOT: Final = Path("/boot")
PACKAGES: Final = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64")
"""Debian's and Ubuntu's for virtual machines, then Debian's for all; each names today's release."""
_NAME_ONE: Final = (
    "name one in the lab file: defaults: {backend: qemu, kernel: /boot/vmlinuz-…}; "
    "its modules are looked for in lib/modules beside boot"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel that was found: its bzImage, the folder of its modules (None: it has none)."""

    image: Path
    modules: Path | None
    release: str
    origin: str


def named(image: Path, origin: str = "named by the lab") -> Source:
    """The kernel `image`, and its modules: beside it as in a root filesystem, or the host's."""
    release = bzimage.release(bzimage.read(image), str(image))
    root = image.resolve().parent.parent
    places = [root / "lib/modules", root / "usr/lib/modules", Path("/lib/modules")]
    folder = next((place / release for place in places if (place / release).is_dir()), None)
    return Source(image, folder, release, origin)


def of_host(boot: Path = BOOT) -> Source | None:
    """The kernel that runs here, if it lies in /boot and may be read (Ubuntu's only by root)."""
    image = boot / f"vmlinuz-{os.uname().release}"
    if not os.access(image, os.R_OK):
        return None
    source = named(image, "the host's own")
    return source if source.modules is not None else None


@contextmanager
def fetched(say: Say) -> Iterator[Source]:
    """The distribution's kernel for virtual machines, unpacked for as long as the context lasts.

    HostError if there is no apt, or it does not reach its mirror.
    """
    if platform.machine() != "x86_64":
        raise HostError("memlab fetches kernels for x86-64 only", hint=_NAME_ONE)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise HostError(
            "there is no kernel for guests here, and no apt to fetch one", hint=_NAME_ONE
        )
    package = _today()
    say(f"fetching {package}")
    with tempfile.TemporaryDirectory(prefix="memlab-kernel-") as made:
        folder = Path(made)
        _run(["apt-get", "-qq", "download", package], folder, f"cannot fetch {package}")
        (file,) = folder.glob("*.deb")
        _run(["dpkg-deb", "-x", file.name, "tree"], folder, f"cannot unpack {file.name}")
        image = next((folder / "tree/boot").glob("vmlinuz-*"))
        yield named(image, f"package {package}")


def _today() -> str:
    """The package that has today's kernel. As root, empty lists are brought up to date."""
    found = _look_up()
    if found is None and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
        found = _look_up()
    if found is None:
        raise HostError(
            "apt knows no kernel for virtual machines",
            hint=f"bring its lists up to date: apt-get update; or {_NAME_ONE}",
        )
    return found


def _look_up() -> str | None:
    for package in PACKAGES:
        asked = subprocess.run(
            ["apt-cache", "depends", package], capture_output=True, text=True, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        for line in asked.stdout.splitlines():
            kind, _, name = line.strip().partition(": ")
            if kind == "Depends" and name.startswith("linux-image-"):
                return name
    return None


def _run(words: list[str], folder: Path, wrong: str) -> None:
    run = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode:
        said = [line for line in run.stderr.splitlines() if line.startswith("E:")]
        why = said[0] if said else run.stderr.strip()[-200:]
        raise HostError(f"{wrong}: {why}", hint=_NAME_ONE)
