"""The micro-guest's image: a kernel looked into, modules put in order, files kept and held."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import pytest

from memlab.errors import HostError
from memlab.guest import bzimage, cpio, image, kernels, modules

RELEASE = "6.1.0-test"


def bz_image(content: bytes, release: str = RELEASE) -> bytes:
    """A bzImage as far as it is looked into: boot header, version text, payload, its size."""
    head = bytearray(0x400)
    head[0x1F1] = 1  # setup_sects
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x80)
    text = f"{release} (someone@somewhere) #1 SMP".encode() + b"\0"
    head[0x280 : 0x280 + len(text)] = text
    struct.pack_into("<II", head, 0x248, 16, len(content) + 4)
    return bytes(head) + bytes(16) + content + struct.pack("<I", 99)


def module(name: str, *needs: str) -> bytes:
    return b"\x7fELF\0name=" + name.encode() + b"\0depends=" + ",".join(needs).encode() + b"\0rest"


def kernel_tree(root: Path, packed: bytes) -> Path:
    """A root filesystem with this kernel and its modules, one of them compressed."""
    folder = root / "lib/modules" / RELEASE / "kernel/drivers"
    folder.mkdir(parents=True)
    (folder / "virtio_ring.ko").write_bytes(module("virtio_ring"))
    (folder / "virtio.ko").write_bytes(module("virtio", "virtio_ring"))
    (folder / "virtio_pci.ko.xz").write_bytes(lzma.compress(module("virtio_pci", "virtio")))
    (folder / "virtio_console.ko").write_bytes(module("virtio_console", "virtio", "virtio_ring"))
    (folder / "nouveau.ko").write_bytes(module("nouveau"))
    path = root / "boot" / f"vmlinuz-{RELEASE}"
    path.parent.mkdir()
    path.write_bytes(bz_image(packed))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(image.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress, bytes])
def test_a_kernel_is_unpacked_out_of_its_bzimage(pack: type[bytes]) -> None:
    raw = bz_image(pack(bzimage.ELF + b"the kernel"))
    assert bzimage.release(raw, "x") == RELEASE
    assert bzimage.unpacked(raw) == bzimage.ELF + b"the kernel"


def test_a_kernel_packed_for_a_tool_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    raw = bz_image(bzimage.LZ4 + b"...")
    assert bzimage.unpacked(raw) is None
    assert bzimage.tool_for(raw) == "lz4"


def test_what_is_no_kernel_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "vmlinuz"
    file.write_bytes(b"MZ" + bytes(2000))
    with pytest.raises(HostError, match="is no kernel of this machine's kind"):
        kernels.named(file)
    with pytest.raises(HostError, match="cannot read the kernel"):
        kernels.named(tmp_path / "none")


def test_modules_come_after_those_they_need(tmp_path: Path) -> None:
    kernel_tree(tmp_path, b"")
    found = modules.find(tmp_path / "lib/modules", ("virtio_console", "virtio_pci", "built_in"))
    assert [one.name for one in found] == [
        "virtio_ring.ko", "virtio.ko", "virtio_console.ko", "virtio_pci.ko",
    ]  # fmt: skip
    assert found[-1].content == module("virtio_pci", "virtio")


def test_an_image_is_made_once_and_held_against_its_hash(tmp_path: Path, cache: Path) -> None:
    path = kernel_tree(tmp_path / "root", lzma.compress(bzimage.ELF + b"kernel"))
    said: list[str] = []
    made = image.micro_guest(path, say=said.append)
    assert made.kernel.read_bytes() == bzimage.ELF + b"kernel"
    assert made.release == RELEASE
    text = made.initramfs.read_bytes()
    assert text.startswith(b"070701") and text.index(b"virtio_ring.ko") < text.index(b"virtio.ko")
    assert b"nouveau" not in text
    assert len(said) == 1
    assert image.micro_guest(path, say=said.append) == made
    assert image.micro_guest(say=said.append) == made  # the one that is kept
    assert len(said) == 1
    assert [one.key for one in image.every()] == [made.key]
    made.kernel.write_bytes(b"something else")
    with pytest.raises(HostError, match="is not what was kept there") as caught:
        image.micro_guest(path)
    assert "image build --fresh" in caught.value.hint
    assert image.micro_guest(path, fresh=True).kernel.read_bytes() == bzimage.ELF + b"kernel"
    assert {one.name for one in cache.iterdir()} == {"lock", made.kernel.parent.name}


def test_an_archive_that_the_kernel_reads() -> None:
    made = cpio.archive({"init": (b"#!", 0o755)}, ("dev",))
    assert made.startswith(b"070701") and b"TRAILER!!!" in made and len(made) % 4 == 0
    assert b"init\0" in made
