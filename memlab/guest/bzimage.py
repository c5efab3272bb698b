"""A Linux kernel's bzImage, looked into: its release, and the kernel proper within it.

QEMU starts an unpacked kernel by its PVH note: that saves each guest the unpacking, which touches
most of its memory, and all guests map one file (see Documentation/arch/x86/boot.rst).
"""

from __future__ import annotations

import bz2
import lzma
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Final

from memlab.errors import HostError

_MAGIC: Final = b"HdrS"
_MAGIC_AT: Final = 0x202
_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\x00"
_LZMA: Final = b"\x5d\x00\x00"
_BZIP2: Final = b"BZh"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
LZ4: Final = b"\x02\x21\x4c\x18"
ELF: Final = b"\x7fELF"
_TOOLS: Final = {ZSTD: ("zstd", "-q", "-d", "-c"), LZ4: ("lz4", "-q", "-d", "-c")}


def release(image: bytes, name: str) -> str:
    """The kernel's release, as its modules' folder is called; HostError if it is no bzImage."""
    if image[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
        raise HostError(
            f"{name} is no kernel of this machine's kind (no bzImage)",
            hint="name a vmlinuz, such as those in /boot",
        )
    (at,) = struct.unpack_from("<H", image, 0x20E)
    text = image[0x200 + at : 0x200 + at + 200].partition(b"\0")[0].decode(errors="replace")
    return text.split(" ")[0]


def payload(image: bytes) -> bytes:
    """The compressed kernel within: setup_sects, payload_offset and payload_length of the boot
    header tell where; the size that stands at its end is left out."""
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = 512 * (image[0x1F1] + 1) + offset
    return image[begin : begin + length - 4]


def unpacked(image: bytes) -> bytes | None:
    """The kernel proper; None if nothing here can unpack it: see `tool_for`."""
    packed = payload(image)
    if packed.startswith(_XZ):
        return lzma.decompress(packed)
    if packed.startswith(_LZMA):
        return lzma.decompress(packed, lzma.FORMAT_ALONE)
    if packed.startswith(_GZIP):
        return zlib.decompressobj(wbits=31).decompress(packed)
    if packed.startswith(_BZIP2):
        return bz2.decompress(packed)
    return packed if packed.startswith(ELF) else decompressed(packed)


def decompressed(data: bytes) -> bytes | None:
    """What a command of this machine makes of zstd's or lz4's format; None if it has none."""
    words = _TOOLS.get(data[:4])
    if words is None or shutil.which(words[0]) is None:
        return None
    run = subprocess.run(words, input=data, capture_output=True, check=False)
    return run.stdout if run.returncode == 0 else None


def tool_for(image: bytes) -> str:
    """The command that would unpack this kernel, or nothing if none is known."""
    return _TOOLS.get(payload(image)[:4], ("",))[0]


def read(path: Path) -> bytes:
    """The file of a kernel; HostError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostError(
            f"cannot read the kernel {path}: {error.strerror}",
            hint="name one that you may read, or run as root",
        ) from error
