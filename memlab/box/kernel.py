"""The distribution's kernel, made quick to start: unpacked, with an initramfs of our own."""

from __future__ import annotations

import lzma
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from memlab.box import recipe
from memlab.box.root import dependencies, kernel_release
from memlab.box.tools import Guest
from memlab.errors import MemlabError

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_XZ: Final = b"\xfd7zXZ\x00"


def payload(image: bytes) -> bytes:
    """The compressed kernel within a bzImage (Documentation/arch/x86/boot.rst: setup_sects,
    payload_offset, payload_length), without the size that stands at its end."""
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = 512 * (image[0x1F1] + 1) + offset
    return image[begin : begin + length - 4]


def unpack(image: Path, target: Path, guest: Guest) -> None:
    """`vmlinux` out of a bzImage: QEMU starts it by its PVH note, and saves the unpacking."""
    packed = payload(image.read_bytes())
    if packed.startswith(_XZ):
        target.write_bytes(lzma.decompress(packed))
        return
    if not packed.startswith(_ZSTD):
        raise MemlabError(
            f"the kernel {image.name} is packed in a way that memlab does not know "
            f"({packed[:4].hex()})",
            hint="build a box of another release: memlab box build --release bookworm",
        )
    part = target.with_suffix(".zst")
    part.write_bytes(packed)
    guest.run("zstd", ["-q", "-d", "-f", str(part), "-o", str(target)])
    part.unlink()


def initramfs(tree: Path, target: Path) -> None:
    """busybox, the modules that the root needs, uncompressed, and the boot script."""
    folder = tree / "usr/lib/modules" / kernel_release(tree)
    modules = [folder / name for name in dependencies(folder, recipe.BOOT_MODULES)]
    names = [path.name.removesuffix(".xz") for path in modules]
    packed = zip(names, modules, strict=True)
    files = {
        "init": (recipe.BOOT_SCRIPT.encode(), 0o755),
        "bin/busybox": ((tree / "usr/bin/busybox").read_bytes(), 0o755),
        "modules/order": ("".join(f"{name}\n" for name in names).encode(), 0o644),
        **{f"modules/{name}": (_plain(path), 0o644) for name, path in packed},
    }  # fmt: skip
    target.write_bytes(archive(files, ("bin", "modules", "dev", "proc", "sys")))


def _plain(module: Path) -> bytes:
    raw = module.read_bytes()
    return lzma.decompress(raw) if raw.startswith(_XZ) else raw


def archive(files: Mapping[str, tuple[bytes, int]], folders: tuple[str, ...]) -> bytes:
    """A cpio archive of the kernel's kind (Documentation/driver-api/early-userspace: newc)."""
    parts = [_entry(name, b"", stat.S_IFDIR | 0o755) for name in folders]
    parts += [_entry(name, data, stat.S_IFREG | mode) for name, (data, mode) in files.items()]
    parts.append(_entry("TRAILER!!!", b"", 0))
    return b"".join(parts)


def _entry(name: str, data: bytes, mode: int) -> bytes:
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (0, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
