"""A box for Vagrant: its disk, its archive and the commands that make it, without making one."""

from __future__ import annotations

import json
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from memlab.box import disk, vagrant
from memlab.box import vagrant_recipe as recipe
from memlab.box.recipe import Release

ROOT = Path(__file__).parents[2]


def test_the_disk_boots_from_its_one_partition() -> None:
    area = disk.boot_area(b"\x90" * 512, b"core", 20480)
    assert area[:440] == b"\x90" * 440 and area[510:512] == b"\x55\xaa"
    assert area[446] == 0x80 and area[450] == 0x83
    assert struct.unpack_from("<II", area, 454) == (2048, 20480 - 2048)
    assert area[512:] == b"core"
    with pytest.raises(ValueError, match="no room"):
        disk.boot_area(b"", bytes(2048 * 512), 20480)


def test_the_archive_is_what_vagrant_libvirt_reads(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"QFI")
    vagrant.pack(tmp_path / "image", tmp_path / "a.box", mib=10 * 1024 + 1)
    with tarfile.open(tmp_path / "a.box") as archive:
        assert archive.getnames() == ["metadata.json", "Vagrantfile", "box.img"]
        assert all(member.uid == 0 for member in archive.getmembers())
        content = archive.extractfile("metadata.json")
        assert content is not None
        facts = json.load(content)
    assert facts == {"provider": "libvirt", "format": "qcow2", "virtual_size": 11}


def test_debian_is_installed_with_what_a_guest_needs(tmp_path: Path) -> None:
    words = vagrant.mmdebstrap(Release.TRIXIE, tmp_path / "tree", tmp_path / "early")
    (include,) = [word for word in words if word.startswith("--include=")]
    for name in ("systemd-sysv", "openssh-server", "sudo", "rsync", "linux-image-amd64"):
        assert name in include.removeprefix("--include=").split(",")
    assert words.index("trixie") < words.index(str(tmp_path / "tree"))


def test_hooks_are_executable_and_other_files_are_not(tmp_path: Path) -> None:
    vagrant.put_files(tmp_path, {**recipe.EARLY_FILES, **recipe.FILES})
    hook = tmp_path / "etc/initramfs-tools/hooks/memlab"
    assert hook.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/fstab").stat().st_mode & 0o777 == 0o644


def test_vagrant_and_lima_use_the_one_script() -> None:
    assert (ROOT / "memlab/box/provision.sh").is_file()
    for name in ("Vagrantfile", "lima.yaml"):
        assert "memlab/box/provision.sh" in (ROOT / name).read_text()


@pytest.mark.parametrize("name", ["provision.sh", "furnish.sh"])
def test_the_scripts_are_shell(name: str) -> None:
    run = subprocess.run(["sh", "-n", ROOT / "memlab/box" / name], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
