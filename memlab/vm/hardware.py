"""The machine that QEMU makes for a guest: what it is, and the one list of its arguments.

Measured choices are explained where they stand; the figures are in docs/qemu.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from memlab.units import MIB

PORT: Final = "memlab.agent"
"""Name of the virtio-serial port on which the agent is asked."""
BALLOON: Final = "balloon"
TRANSLATIONS_MIB: Final = 32
"""Of TCG's translation cache: less boots slower (8 MiB: by a third), the default of 1 GiB grows."""
_COMMAND_LINE: Final = (
    "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests rcupdate.rcu_expedited=1"
)


class Accelerator(StrEnum):
    """What runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a guest is given. Two guests of equal hardware can start from one saved state.

    `guest_swap` and `cache_file` are sizes of disks, bytes.
    """

    memory: int
    accelerator: Accelerator
    mergeable: bool = True
    reporting: bool = False
    guest_swap: int = 0
    cache_file: int = 0
    network: bool = False


@dataclass(frozen=True, slots=True)
class Nic:
    """A network card: the descriptor of its tap, and its Ethernet address.

    A guest that starts from a saved state has that one's address, until its agent sets its own.
    """

    tap: int
    mac: str


@dataclass(frozen=True, slots=True)
class Root:
    """Disks of a full guest. `base` is the user's own, for reading; what the guest writes goes to
    `top`, one descriptor to read and write, one to read; `agent` is the agent's drive.

    `direct`: both are read and written past the host's page cache.
    """

    base: int
    top: tuple[int, int]
    agent: int
    direct: bool = True


@dataclass(frozen=True, slots=True)
class Lines:
    """Descriptors that QEMU inherits: two connected sockets, and files for what there is.

    `kernel` and `initramfs` are not needed to start from `state`. A disk has two, one to read and
    one to read and write: QEMU looks for the one whose mode it wants.
    """

    agent: int
    monitor: int
    kernel: int | None = None
    initramfs: int | None = None
    state: int | None = None
    guest_swap: tuple[int, ...] = ()
    cache_file: tuple[int, ...] = ()
    nic: Nic | None = None
    root: Root | None = None

    @property
    def all(self) -> tuple[int, ...]:
        """All that there are."""
        found = (self.agent, self.monitor, self.kernel, self.initramfs, self.state)
        tap = () if self.nic is None else (self.nic.tap,)
        disks = (*self.guest_swap, *self.cache_file)
        root = self.root
        full = () if root is None else (root.base, *root.top, root.agent)
        return (*(fd for fd in found if fd is not None), *disks, *tap, *full)


def arguments(hardware: Hardware, lines: Lines) -> list[str]:
    """QEMU's arguments. It finds every file by its descriptor, for it owns nothing here."""
    return [
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", f"q35,mem-merge={'on' if hardware.mergeable else 'off'}"),
        *_accelerator(hardware.accelerator, full=lines.root is not None),
        *("-m", str(hardware.memory // MIB), "-smp", "1"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-chardev", "file,id=console,path=/dev/fd/2,append=on", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=monitor,fd={lines.monitor}"),
        *("-mon", "chardev=monitor,mode=control"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=agent,fd={lines.agent}"),
        *("-device", f"virtserialport,chardev=agent,name={PORT}"),
        *("-device", _balloon(hardware)),
        *_disks(lines),
        *_card(lines.nic),
        *_root(lines.root),
        *_begin(lines, hardware.accelerator),
    ]


def command_line(chosen: Accelerator) -> str:
    """What a micro-guest's kernel is told."""
    # An emulated local timer is calibrated in 0.15 s of a boot's 1.85; HPET is as good for one CPU.
    return _COMMAND_LINE + (" nolapic_timer" if chosen is Accelerator.TCG else "")


def _accelerator(chosen: Accelerator, *, full: bool) -> tuple[str, ...]:
    if chosen is Accelerator.KVM:
        return ("-accel", "kvm", "-cpu", "host")
    # Distributions ask for x86-64-v2 and newer; micro-guests boot faster without all of it.
    return ("-accel", f"tcg,tb-size={TRANSLATIONS_MIB}", *(("-cpu", "max") if full else ()))


def _balloon(hardware: Hardware) -> str:
    reporting = "on" if hardware.reporting else "off"
    # Without deflate-on-oom a guest that is pressed too hard panics instead of taking pages back.
    return f"virtio-balloon-pci,id={BALLOON},deflate-on-oom=on,free-page-reporting={reporting}"


def _disks(lines: Lines) -> Iterator[str]:
    """Disks by sets of descriptors; past the host's page cache, or a page would stand there too."""
    for number, (name, fds) in enumerate(
        (("swap", lines.guest_swap), ("cache", lines.cache_file)), start=1
    ):
        if not fds:
            continue
        for fd in fds:
            yield from ("-add-fd", f"set={number},fd={fd}")
        yield from ("-drive", f"if=none,id={name},file=/dev/fdset/{number},format=raw,cache=none")
        yield from ("-device", f"virtio-blk-pci,drive={name},serial=memlab-{name}")


def _card(nic: Nic | None) -> Iterator[str]:
    """Without a boot ROM: no guest of ours starts from the network."""
    if nic is not None:
        yield from ("-netdev", f"tap,id=net,fd={nic.tap}")
        yield from ("-device", f"virtio-net-pci,netdev=net,mac={nic.mac},romfile=")


def _root(root: Root | None) -> Iterator[str]:
    """The firmware boots from the first one. Nothing can be written to the user's own disk, as QEMU
    has no descriptor for that."""
    if root is None:
        return
    cache = f"cache.direct={'on' if root.direct else 'off'}"
    for number, fd in ((3, root.base), *((4, fd) for fd in root.top), (5, root.agent)):
        yield from ("-add-fd", f"set={number},fd={fd}")
    for node, number, more in (("base", 3, "read-only=on"), ("root", 4, "backing=base")):
        file = f"file.driver=file,file.filename=/dev/fdset/{number},file.{cache}"
        yield from ("-blockdev", f"driver=qcow2,node-name={node},{more},{cache},{file}")
    yield from ("-device", "virtio-blk-pci,drive=root,bootindex=1,serial=memlab-root")
    file = "file.driver=file,file.filename=/dev/fdset/5"
    yield from ("-blockdev", f"driver=raw,node-name=agent,read-only=on,{file}")
    yield from ("-device", "virtio-blk-pci,drive=agent,serial=memlab-agent")


def _begin(lines: Lines, chosen: Accelerator) -> Iterator[str]:
    """From a saved state, or from a kernel."""
    if lines.state is not None:
        yield from ("-incoming", f"fd:{lines.state}")
    elif lines.kernel is not None:
        yield from ("-kernel", f"/proc/self/fd/{lines.kernel}")
        yield from ("-initrd", f"/proc/self/fd/{lines.initramfs}")
        yield from ("-append", command_line(chosen))
