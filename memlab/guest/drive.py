"""The agent's drive: a small read-only disk that every full guest has, labelled MEMLAB.

memlab-agent    this memlab's, static
install         lets a system start it at boot (install.sh)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from memlab.guest import iso
from memlab.guest.build import agent_path

LABEL: Final = "MEMLAB"
INSTALLER: Final = Path(__file__).with_name("install.sh")


def content() -> bytes:
    """The whole drive, an ISO 9660 file system. HostError if the agent cannot be built."""
    files = {"memlab-agent": agent_path().read_bytes(), "install": INSTALLER.read_bytes()}
    return iso.image(LABEL, files)


def open_drive() -> int:
    """Descriptor of a memory file with the drive, which nothing can be written through."""
    memory = os.memfd_create("memlab-drive", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(memory), "wb") as file:
            file.write(content())
        return os.open(f"/proc/self/fd/{memory}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(memory)
