"""Swap areas and the making of one, without root."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from memlab.errors import HostError, KernelError
from memlab.kernel import swap
from memlab.kernel.files import Roots
from memlab.units import KIB, MIB
from tests.captured import HYBRID

MOUNTS = """\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:25 / /dev/shm rw - tmpfs tmpfs rw
31 22 0:26 / /mnt/with\\040space rw,nosuid shared:4 - btrfs /dev/vdb rw
32 22 0:27 / /over rw - overlay overlay rw
33 32 0:28 / /over/disk rw - xfs /dev/vdc rw
"""


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text(MOUNTS)
    return Roots(proc=tmp_path)


def test_areas_are_bytes_and_names_may_have_spaces() -> None:
    assert swap.areas(HYBRID) == [
        swap.SwapArea(Path("/var/tmp/memlab a.swap"), "file", 131068 * KIB, 8000 * KIB, 32767)
    ]


def test_no_areas(tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n")
    assert swap.areas(Roots(proc=tmp_path)) == []


def test_a_negative_priority_and_a_deleted_file() -> None:
    raw = b"Filename\n/a\\040(deleted) file 8 4 -2\n/dev/zram1 partition 16 0 5\n"
    first, second = swap.parse_areas(raw)
    assert (first.priority, first.used) == (-2, 4 * KIB)
    assert (second.path, second.kind) == (Path("/dev/zram1"), "partition")


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/var/tmp/x", "ext4"),
        ("/dev/shm/x", "tmpfs"),
        ("/mnt/with space/x", "btrfs"),
        ("/over/x", "overlay"),
        ("/over/disk/x", "xfs"),
        ("/overlong", "ext4"),
    ],
)
def test_the_filesystem_of_a_place(roots: Roots, place: str, kind: str) -> None:
    assert swap.filesystem_of(Path(place), roots) == kind


@pytest.mark.parametrize("place", ["/dev/shm/x", "/over/x"])
def test_filesystems_that_cannot_hold_one_are_refused_by_name(roots: Roots, place: str) -> None:
    with pytest.raises(HostError, match=swap.filesystem_of(Path(place), roots)) as caught:
        swap.make_file(Path(place), MIB, roots)
    assert "ext4" in caught.value.hint
    assert not Path(place).exists()


def test_the_header_is_what_mkswap_writes(tmp_path: Path) -> None:
    """Held against a second reader of the format, where there is one."""
    file = tmp_path / "area"
    file.write_bytes(swap.header(MIB) + bytes(MIB - 4096))
    head = file.read_bytes()[:4096]
    assert head[4086:] == b"SWAPSPACE2"
    assert head[1024:1032] == (1).to_bytes(4, "little") + (255).to_bytes(4, "little")
    blkid = shutil.which("blkid", path="/usr/sbin:/sbin:/usr/bin")
    if blkid:
        told = subprocess.run([blkid, "-p", file], capture_output=True, text=True, check=True)
        assert 'TYPE="swap"' in told.stdout and 'LABEL="memlab"' in told.stdout


def test_a_file_is_allocated_and_private(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    path = tmp_path / "a.swap"
    size = swap.make_file(path, 3 * MIB + 17, Roots(proc=tmp_path / "proc"))
    found = path.stat()
    assert size == found.st_size == 3 * MIB
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_blocks * 512 >= size, "a swap file has no holes"
    with pytest.raises(KernelError, match="exists"):
        swap.make_file(path, MIB, Roots(proc=tmp_path / "proc"))
    assert path.stat().st_size == size, "an existing file is left alone"


def test_no_room_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.swap"
    with pytest.raises((HostError, KernelError)):
        swap.make_file(path, 1 << 60, Roots(proc=tmp_path))
    assert not path.exists()


def test_no_zram_is_said_with_the_repair(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no zram") as caught:
        swap.make_zram(MIB, roots=Roots(sys=tmp_path))
    assert "modprobe zram" in caught.value.hint
    swap.remove_zram(Path("/dev/zram77"), Roots(sys=tmp_path))
