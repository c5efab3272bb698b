"""Which QEMU this machine has, and how to get one."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from typing import Final

from memlab.errors import HostError
from memlab.kernel.finding import Feature, Finding

PROGRAM: Final = "qemu-system-x86_64"
REPAIR: Final = "apt-get install qemu-system-x86 (Fedora: dnf install qemu-system-x86-core)"


def require_qemu() -> None:
    """HostError, with the line that installs it, if there is none."""
    if shutil.which(PROGRAM) is None:
        raise HostError(
            f"VMs with backend: qemu need {PROGRAM}, which is not installed", hint=REPAIR
        )


@cache
def version() -> str:
    """What QEMU says of itself, with the distribution's revision."""
    require_qemu()
    asked = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False)
    return asked.stdout.partition("\n")[0].strip().removeprefix("QEMU emulator version ")


def probe_qemu() -> Finding:
    """Whether a lab may have VMs with backend: qemu."""
    how, affects = f"asked {PROGRAM} for its version", ("VMs with backend: qemu",)
    try:
        return Finding(Feature.QEMU, True, how, f"QEMU {version()}", "", affects)
    except HostError as error:
        return Finding(Feature.QEMU, False, how, "it is not installed", error.hint, affects)
