"""Kernel modules that a micro-guest loads: found below a folder, each after those it needs.

What a module needs stands in the module itself (`depends=` in its .modinfo section), so nothing of
kmod is needed. A module that is not there is built into the kernel, or the guest does without it.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.errors import HostError
from memlab.guest import bzimage

WANTED: Final = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_balloon")
"""Bus, disks, the network's card, the agent's line, the balloon."""
_MARK: Final = b"\0depends="


@dataclass(frozen=True, slots=True)
class Module:
    """One module: the file's name without what compressed it, and its content as it is loaded."""

    name: str
    content: bytes


def find(folder: Path, wanted: Sequence[str] = WANTED) -> list[Module]:
    """The modules `wanted` below `folder`, in the order in which they can be loaded."""
    files = {_plain(path.name): path for path in sorted(folder.rglob("*.ko*"))}
    found: dict[str, Module] = {}

    def add(name: str) -> None:
        path = files.get(name)
        if path is None or name in found:
            return
        module = _read(path)
        for other in _needs(module.content):
            add(other)
        found[name] = module

    for name in wanted:
        add(name)
    return list(found.values())


def _plain(file: str) -> str:
    return file.partition(".")[0].replace("-", "_")


def _read(path: Path) -> Module:
    """Uncompressed if that can be done here; the kernel can do it too, since 5.17."""
    raw = path.read_bytes()
    if path.suffix == ".xz":
        raw = lzma.decompress(raw)
    elif path.suffix == ".gz":
        raw = zlib.decompressobj(wbits=31).decompress(raw)
    elif path.suffix == ".zst":
        return Module(f"{_plain(path.name)}.ko", _zstd(raw, path))
    return Module(f"{_plain(path.name)}.ko", raw)


def _zstd(raw: bytes, path: Path) -> bytes:
    plain = bzimage.decompressed(raw)
    if plain is None:
        raise HostError(
            f"the modules of this kernel are packed with zstd ({path.name}), which is not here",
            hint="apt-get install zstd",
        )
    return plain


def _needs(content: bytes) -> Iterator[str]:
    at = content.find(_MARK)
    if at < 0:
        return
    names = content[at + len(_MARK) :].partition(b"\0")[0].decode(errors="replace")
    yield from (name for name in names.replace("-", "_").split(",") if name)
