"""QEMU's command line for a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memlab.box import recipe
from memlab.box.cache import Box
from memlab.units import MIB

TAG = "host"
"""Name of the shared folder inside."""
PORT = "memlab"
"""Name of the agent's port."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a box is given: `accelerator` is kvm or tcg, `cgroup` is v2 or v1, memory in bytes."""

    accelerator: str
    memory: int
    cgroup: str = "v2"

    @property
    def words(self) -> tuple[str, ...]:
        """What a saved state depends on."""
        return self.accelerator, str(self.memory), self.cgroup


def arguments(
    box: Box,
    hardware: Hardware,
    *,
    agent: int,
    console: int,
    monitor: int | None = None,
    share: Path | None = None,
    state: int | None = None,
) -> list[str]:
    """QEMU's arguments. `agent`, `console`, `monitor` and `state` are descriptors that it inherits:
    two connected sockets, a file for the kernel's messages, and a saved state to start from.

    A saved state fits only the machine that it was made on, so the folder's device is there even
    without a folder. One processor: with several, an emulated kernel that patches itself may die.
    """
    cgroup = " memlab.cgroup=v1" if hardware.cgroup == "v1" else ""
    words = [
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        # Not to be merged with anything while a lab shares pages on the host itself.
        *("-machine", "pc,mem-merge=off"),
        *("-accel", hardware.accelerator, "-cpu", "max", "-smp", "1"),
        *("-m", f"{hardware.memory // MIB}"),
        *("-kernel", str(box.base_folder / "vmlinux"), "-initrd", str(box.base_folder / "initrd")),
        *("-append", recipe.COMMAND_LINE + cgroup),
        *_disks(box),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=agent,fd={agent}"),
        *("-device", f"virtserialport,chardev=agent,name={PORT}"),
        *("-chardev", f"file,id=console,path=/dev/fd/{console}", "-serial", "chardev:console"),
        *("-fsdev", f"local,id=share,path={_quoted(share or box.base_folder)},security_model=none,"
          "readonly=on,multidevs=remap"),
        *("-device", f"virtio-9p-pci,fsdev=share,mount_tag={TAG}"),
    ]  # fmt: skip
    if monitor is not None:
        words += ["-chardev", f"socket,id=qmp,fd={monitor}", "-mon", "chardev=qmp,mode=control"]
    if state is not None:
        words += ["-incoming", f"fd:{state}"]
    return words


def _disks(box: Box) -> Sequence[str]:
    """Three images that nobody writes, and a disk whose changes are in a file without a name."""
    words = []
    for name, path in zip(("base", "deps", "memlab"), box.layers, strict=True):
        words += ["-drive", f"if=none,id={name},file={_quoted(path)},format=raw,readonly=on"]
        words += ["-device", f"virtio-blk-pci,drive={name}"]
    scratch = _quoted(box.base_folder / "scratch.ext4")
    words += ["-drive", f"if=none,id=scratch,file={scratch},format=raw,snapshot=on,cache=unsafe"]
    return [*words, "-device", "virtio-blk-pci,drive=scratch"]


def _quoted(path: Path) -> str:
    """A path within one of QEMU's comma-separated options."""
    return str(path).replace(",", ",,")
