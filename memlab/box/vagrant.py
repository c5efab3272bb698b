"""`memlab box build --vagrant`: a box for Vagrant's libvirt provider, from Debian's packages.

Unlike memlab's own box it is a whole Debian, with systemd, sshd and apt, whose packages have been
configured; so it is made by root, or in a user namespace where the user may have one.
"""

from __future__ import annotations

import json
import math
import os
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from memlab.box import disk, layers, root
from memlab.box import vagrant_recipe as recipe
from memlab.box.build import Say
from memlab.box.recipe import Release
from memlab.box.tools import Guest, last_words, make, require
from memlab.errors import HostError

_FURNISH: Final = Path(__file__).parent / "furnish.sh"


def build(release: Release, target: Path, *, say: Say) -> None:
    """Make the box of `release`, with this memlab in it, at `target`.

    HostError with what failed if a tool is missing or a package cannot be had.
    """
    require(*recipe.NEEDED)
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".vagrant-", dir=target.parent) as made:
        work = Path(made)
        work.chmod(0o755)
        try:
            _build(release, work, say)
        finally:
            _as_root(["rm", "-rf", str(work / "tree")], "the tree could not be removed")
        pack(work / "box.img", work / "memlab.box", mib=recipe.DISK_MIB)
        (work / "memlab.box").replace(target)


def _build(release: Release, work: Path, say: Say) -> None:
    tree, ours, raw = work / "tree", work / "ours", work / "disk.raw"
    began = time.monotonic()
    say(f"installing Debian {release} with systemd")
    put_files(work / "early", recipe.EARLY_FILES)
    _as_owner(mmdebstrap(release, tree, work / "early"), "mmdebstrap could not install Debian")
    say(f"Debian: {time.monotonic() - began:.0f} s; now memlab")
    guest = Guest(tree)
    put_files(ours, {**recipe.FILES, "root/vagrant.pub": recipe.INSECURE_KEY})
    layers.put_deps(guest, _all_requirements(), ours)
    layers.put_memlab(guest, ours)
    lists = {"UNITS": recipe.UNITS, "QUIET": recipe.QUIET, "GRUB_MODULES": recipe.GRUB_MODULES}
    words = [f"{name}={' '.join(words)}" for name, words in lists.items()]
    _as_root(["env", *words, "sh", str(_FURNISH), str(tree), str(ours)], "Debian was not furnished")
    say("writing its disk")
    _disk(tree, raw)
    _as_owner(
        ["qemu-img", "convert", "-c", "-W", "-O", "qcow2", str(raw), str(work / "box.img")],
        "qemu-img could not compress the disk",
    )
    say(f"disk: {time.monotonic() - began:.0f} s in all")


def put_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write `files`, named from the guest's `/`, below `folder`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if "/hooks/" in name else 0o644)


def mmdebstrap(release: Release, tree: Path, early: Path) -> list[str]:
    """The command that installs Debian in `tree`; what is in `early` is there from the start."""
    mode = "root" if os.geteuid() == 0 else "unshare"
    return [
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--mode={mode}", "--format=directory"),
        *("--architectures=amd64", f"--keyring={root.KEYRINGS}"),
        f"--include={','.join(recipe.PACKAGES)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in recipe.LEFT_OUT),
        f"--essential-hook=sync-in {early} /",
        *(release, str(tree), *root.mirror()),
    ]


def _all_requirements() -> list[str]:
    """Of memlab, numpy too: whoever logs in may use every command."""
    return [line for line in metadata.requires("memlab") or [] if "extra ==" not in line]


def _disk(tree: Path, raw: Path) -> None:
    size = recipe.DISK_MIB << 20
    with raw.open("wb") as file:
        file.truncate(size)
        boot, core = ((tree / "boot/grub" / name).read_bytes() for name in ("boot.img", "core.img"))
        file.write(disk.boot_area(boot, core, size // disk.SECTOR))
    raw.chmod(0o666)  # in a namespace root is another one; the folder is closed to others
    words = disk.filesystem(tree, raw, mib=recipe.DISK_MIB, label=recipe.LABEL)
    _as_root(words, "the disk's filesystem could not be made")


def describe(mib: int) -> dict[str, object]:
    """metadata.json of a box whose disk has `mib` MiB; vagrant-libvirt wants GiB, rounded up."""
    size = math.ceil(mib / 1024)
    return {"provider": "libvirt", "format": recipe.METADATA_FORMAT, "virtual_size": size}


def pack(image: Path, target: Path, *, mib: int) -> None:
    """The box at `target`: a tar with `image`, which is compressed already, and what it is."""
    folder = target.parent
    (folder / "metadata.json").write_text(json.dumps(describe(mib)) + "\n")
    (folder / "Vagrantfile").write_text(recipe.BOX_VAGRANTFILE)
    with tarfile.open(target, "w") as archive:
        for name in ("metadata.json", "Vagrantfile"):
            archive.add(folder / name, name, filter=_nobodys)
        archive.add(image, "box.img", filter=_nobodys)


def _nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode = 0o644
    return info


def _as_root(words: Sequence[str], otherwise: str) -> None:
    """Run as root of the tree: root itself, or root of the user's namespace."""
    helper = () if os.geteuid() == 0 else ("mmdebstrap", "--unshare-helper")
    _as_owner([*helper, *words], otherwise)


def _as_owner(words: Sequence[str], otherwise: str) -> None:
    run = make(words)
    if run.returncode:
        raise HostError(f"{otherwise}: {last_words(run.stderr)}", hint=_hint(words[0]))


def _hint(program: str) -> str:
    if program == "mmdebstrap":
        return (
            "look whether apt reaches its mirror (apt-get update); without root the user needs "
            "a namespace: /etc/subuid, and kernel.unprivileged_userns_clone=1"
        )
    return "make room if the disk is full; else run it as root"
