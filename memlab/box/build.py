"""Builds a box, or brings it up to date: only the layers whose parts have changed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from memlab.box import cache, kernel, layers, recipe, root
from memlab.box.cache import Box
from memlab.box.tools import Guest
from memlab.guest.cachedir import discard

Say = Callable[[str], None]


def is_current(box: Box) -> bool:
    """Whether `box` has this memlab in it."""
    return box.memlab == layers.memlab_key()


def build(
    release: recipe.Release, *, extras: Iterable[str] = (), fresh: bool = False, say: Say
) -> Box:
    """The box of `release` with this memlab in it. `extras` are Python packages besides.

    `fresh` makes every layer anew. HostError if something that builds it is missing.
    """
    extras = tuple(sorted(extras))
    with cache.locked(release, alone=True) as folder:
        base = layers.base_key(release)
        if fresh:
            discard(folder / f"base-{base}")
        _base(folder / f"base-{base}", release, say)
        guest = Guest(folder / f"base-{base}" / "tree")
        deps = layers.deps_key(base, guest.python, extras)
        _layer(
            folder / f"deps-{deps}.erofs", fresh, say, "Python libraries",
            lambda work, target: layers.make_deps(guest, extras, work, target),
        )  # fmt: skip
        ours = layers.memlab_key()
        _layer(
            folder / f"memlab-{ours}.erofs", fresh, say, "memlab",
            lambda work, target: layers.make_memlab(guest, work, target),
        )  # fmt: skip
        box = Box(
            folder=folder, release=release, kernel=root.kernel_release(guest.tree),
            python=guest.python, base=base, deps=deps, memlab=ours, extras=extras,
            built=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )  # fmt: skip
        cache.publish(box)
    return box


def up_to_date(release: recipe.Release, *, say: Say) -> Box:
    """The box of `release`, with this memlab in it. HostError if it was never built."""
    box = cache.needed(release)
    if is_current(box):
        return box
    say("the box has another memlab in it; bringing it up to date")
    return build(release, extras=box.extras, say=say)


def _base(folder: Path, release: recipe.Release, say: Say) -> None:
    if folder.is_dir():
        return
    began = time.monotonic()
    say(f"unpacking Debian {release} from {root.mirror()}")
    with tempfile.TemporaryDirectory(prefix=".base-", dir=folder.parent) as made:
        work = Path(made) / "base"
        work.mkdir()
        tree = work / "tree"
        root.make_tree(tree, release)
        say("making its kernel and image")
        guest = Guest(tree)
        boot = tree / "boot"
        kernel.unpack(next(boot.glob("vmlinuz-*")), work / "vmlinux", guest)
        kernel.initramfs(tree, work / "initrd")
        for path in boot.iterdir():
            path.unlink()
        guest.image(tree, work / "base.erofs")
        _scratch(guest, work / "scratch.ext4")
        work.rename(folder)
    say(f"base: {time.monotonic() - began:.0f} s")


def _scratch(guest: Guest, target: Path) -> None:
    """An empty filesystem for swap files and what commands write: sparse."""
    with target.open("wb") as file:
        file.truncate(recipe.SCRATCH_BYTES)
    lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    guest.run("mke2fs", ["-q", "-t", "ext4", "-E", lazy, "-m", "0", "-F", str(target)])


def _layer(
    target: Path, fresh: bool, say: Say, name: str, make: Callable[[Path, Path], None]
) -> None:
    if target.is_file() and not fresh:
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".layer-", dir=target.parent) as made:
        work, part = Path(made) / "tree", Path(made) / target.name
        work.mkdir(mode=0o755)
        make(work, part)
        part.replace(target)
    say(f"{name}: {time.monotonic() - began:.0f} s")
