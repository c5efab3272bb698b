"""Saved states of guests: one that was booted once, to start others from in a tenth of a second.

A state fits only the machine that it was made on, so its name is a hash of all that makes one:
QEMU's version and arguments, sizes of disks, the image with its agent, and this host's processor.
What is taken is held against its hash; one that is damaged is made anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from memlab.guest.cachedir import UNFINISHED, cache_folder, discard_unfinished, locked
from memlab.guest.image import GuestImage
from memlab.kernel import qemu
from memlab.kernel.network import LabNetwork, Seat
from memlab.vm.base import Backend, VmConfig
from memlab.vm.child import Identity, Places
from memlab.vm.disk import open_guest_disk
from memlab.vm.hardware import Hardware, Lines, Nic, arguments, command_line
from memlab.vm.launch import Disks
from memlab.vm.qemu import QemuVm

VARIABLE: Final = "MEMLAB_STATE_DIR"
BOOT_SECONDS: Final = 120.0
SAVE_SECONDS: Final = 60.0
KEPT: Final = 8
_VERSION: Final = 1
_NO_CARD: Final = Nic(0, "")


def saved_state(
    hardware: Hardware,
    image: GuestImage,
    *,
    identity: Identity | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """The state of a guest of this hardware whose agent is ready; it is booted now if need be."""
    with locked(cache_folder("state", VARIABLE), alone=True, variable=VARIABLE) as folder:
        discard_unfinished(folder)
        path = folder / f"{_key(hardware, image)}.state"
        if not _is_whole(path):
            say(f"booting a guest of {hardware.memory >> 20} MiB once, to start others from there")
            _make(path, hardware, image, identity)
        os.utime(path)
        states = sorted(folder.glob("*.state"), key=lambda one: -one.stat().st_mtime)
        for old in states[KEPT:]:
            old.unlink()
            _sum_of(old).unlink(missing_ok=True)
    return path


def _key(hardware: Hardware, image: GuestImage) -> str:
    words = arguments(hardware, Lines(0, 0, guest_swap=_some(hardware.guest_swap),
                                      cache_file=_some(hardware.cache_file),
                                      nic=_NO_CARD if hardware.network else None))  # fmt: skip
    told = command_line(hardware.accelerator)
    facts = (_VERSION, *words, told, hardware.guest_swap, hardware.cache_file, image.key)
    text = "\0".join(map(str, (*facts, qemu.version(), _processor())))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _some(size: int) -> tuple[int, ...]:
    return (0,) if size else ()


def _processor() -> str:
    """Its name: under KVM the guest has seen this one, and no other."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return ""


def _make(path: Path, hardware: Hardware, image: GuestImage, identity: Identity | None) -> None:
    config = VmConfig(
        "template", 0, hardware.memory, backend=Backend.QEMU, mergeable=hardware.mergeable
    )
    with (
        tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=path.parent) as made,
        ExitStack() as stack,
    ):
        disks = Disks(
            _disk(Path(made), hardware.guest_swap, stack),
            _disk(Path(made), hardware.cache_file, stack),
        )
        guest = QemuVm(
            config,
            Places(Path("/")),
            hardware,
            image=image,
            disks=disks,
            nic=_card(stack) if hardware.network else None,
            identity=identity,
            with_parent=True,
        )
        stack.callback(guest.stop, timeout=0)
        guest.launch()
        guest.wait_for_agent(timeout=BOOT_SECONDS)
        part = Path(made) / "state"
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        stack.callback(os.close, fd)
        guest.save(fd, timeout=SAVE_SECONDS)
        _sum_of(path).write_text(_sum(part))
        part.replace(path)


def _disk(folder: Path, size: int, stack: ExitStack) -> int | None:
    if not size:
        return None
    fd = open_guest_disk(folder, size)
    stack.callback(os.close, fd)
    return fd


def _card(stack: ExitStack) -> Nic:
    """A card on a network on which there is nobody else."""
    seat = Seat(1)
    return Nic(stack.enter_context(LabNetwork.make()).tap(seat, "template"), seat.mac)


def _sum_of(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(path: Path) -> bool:
    return path.is_file() and _sum_of(path).is_file() and _sum_of(path).read_text() == _sum(path)
