"""A whole system on a disk, made here: its own boot loader, kernel, and a userland of busybox.

The disk is one FAT file system that the firmware starts (syslinux), so it is made without mounting
anything. Its init installs memlab's agent as the page on QEMU guests says, when it is asked to.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memlab.guest import bzimage, cpio, kernels, modules
from memlab.guest.kernels import Source
from memlab.units import MIB

TOOLS = {"syslinux": "syslinux", "mcopy": "mtools", "qemu-img": "qemu-utils",
         "busybox": "busybox-static"}  # fmt: skip
"""Commands, and Debian's packages that bring them."""
SIZE = 48 * MIB
_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_balloon", "isofs")
_INIT = """#!/busybox sh
/busybox mkdir -p /proc /sys /dev /run /tmp /bin /sbin /usr/sbin /usr/bin
/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do insmod $module; done
echo "a system of its own, from $(cat /proc/cmdline)"
echo never written >/tmp/before
"""
_WITH_AGENT = """
while ! drive=$(findfs LABEL=MEMLAB); do sleep 0.1; done
mkdir /mnt && mount -t iso9660 -r $drive /mnt && sh /mnt/install
umount /mnt
/usr/local/sbin/memlab-agent-start &
"""
_WRITES = """
echo 'it writes to its disk'
dd if=/dev/zero of=/dev/vda bs=64k seek=400 count=160 conv=fsync
"""
_STAYS = "while :; do sleep 60; done\n"
_LOADER = """DEFAULT memlab
PROMPT 0
TIMEOUT 0
LABEL memlab
  KERNEL vmlinuz
  APPEND initrd=initrd quiet console=ttyS0 mitigations=off panic=-1
"""


def make_disk(folder: Path, *, agent: bool) -> Path:
    """A qcow2 disk in `folder` that boots; its system starts memlab's agent, or has none."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    assert not missing, f"apt-get install {' '.join(missing)}, as scripts/test vm does"
    raw, disk = folder / "disk.raw", folder / f"{'with' if agent else 'without'}-agent.qcow2"
    with _kernel() as kernel:
        (folder / "vmlinuz").write_bytes(bzimage.read(kernel.image))
        (folder / "initrd").write_bytes(_initramfs(kernel, _WITH_AGENT if agent else ""))
    (folder / "syslinux.cfg").write_text(_LOADER)
    with raw.open("wb") as file:
        file.truncate(SIZE)
    shape = ("-T", str(SIZE // 512), "-h", "64", "-s", "32")
    _run("mformat", "-i", str(raw), "-v", "SYSTEM", *shape, "::")
    names = [str(folder / name) for name in ("vmlinuz", "initrd", "syslinux.cfg")]
    _run("mcopy", "-i", str(raw), *names, "::/")
    _run("syslinux", "--install", str(raw))
    _run("qemu-img", "convert", "-O", "qcow2", str(raw), str(disk))
    raw.unlink()
    return disk


@contextmanager
def _kernel() -> Iterator[Source]:
    found = kernels.of_host()
    if found is not None:
        yield found
        return
    with kernels.fetched(lambda _: None) as found:
        yield found


def _initramfs(kernel: Source, more: str) -> bytes:
    busybox = Path(shutil.which("busybox") or "").resolve()
    files = {"init": ((_INIT + more + _WRITES + _STAYS).encode(), 0o755)}
    files["busybox"] = (busybox.read_bytes(), 0o755)
    found = modules.find(kernel.modules, _MODULES) if kernel.modules else []
    for number, module in enumerate(found):
        files[f"modules/{number:02d}-{module.name}"] = (module.content, 0o644)
    return cpio.archive(files, ("modules",))


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
