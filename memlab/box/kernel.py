"""The distribution's kernel, made quick to start: unpacked, with an initramfs of our own."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Final

from memlab.box import recipe
from memlab.box.root import dependencies, kernel_release
from memlab.box.tools import Guest
from memlab.errors import MemlabError
from memlab.guest.bzimage import ZSTD, payload, unpacked
from memlab.guest.cpio import archive

_XZ: Final = b"\xfd7zXZ\x00"


def unpack(image: Path, target: Path, guest: Guest) -> None:
    """`vmlinux` out of a bzImage: QEMU starts it by its PVH note, and saves the unpacking."""
    raw = image.read_bytes()
    plain, packed = unpacked(raw), payload(raw)
    if plain is not None:
        target.write_bytes(plain)
        return
    if not packed.startswith(ZSTD):
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
