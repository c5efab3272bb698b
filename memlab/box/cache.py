"""Where boxes are kept: a folder each, whose `box.json` is written last and names its parts.

DIR/trixie/box.json           which parts are the box now
DIR/trixie/base-KEY/          tree/ (the guest's files), base.erofs, vmlinux, initrd, scratch
DIR/trixie/deps-KEY.erofs     Python libraries
DIR/trixie/memlab-KEY.erofs   memlab itself
DIR/trixie/states/KEY.state   a machine that has booted, to be started from
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from memlab.errors import HostError
from memlab.guest import cachedir
from memlab.guest.cachedir import cache_folder, discard

VARIABLE: Final = "MEMLAB_BOX_DIR"
_FACTS: Final = "box.json"


@dataclass(frozen=True, slots=True)
class Box:
    """A box that has been built. `folder` is where; the rest names its parts."""

    folder: Path
    release: str
    kernel: str
    python: str
    base: str
    deps: str
    memlab: str
    extras: tuple[str, ...]
    built: str

    @property
    def base_folder(self) -> Path:
        """The files of the distribution, and the kernel."""
        return self.folder / f"base-{self.base}"

    @property
    def layers(self) -> tuple[Path, Path, Path]:
        """The three images, from the lowest."""
        return (
            self.base_folder / "base.erofs",
            self.folder / f"deps-{self.deps}.erofs",
            self.folder / f"memlab-{self.memlab}.erofs",
        )

    @property
    def states(self) -> Path:
        """The folder of saved states."""
        return self.folder / "states"

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.lstat().st_blocks * 512 for path in self.folder.rglob("*"))


def boxes_folder() -> Path:
    """Root's are for everybody's labs on this machine; a user's are below the user's cache."""
    return cache_folder("box", VARIABLE)


def find(release: str) -> Box | None:
    """The box of `release`, or None if there is none, or a part of it is missing."""
    folder = boxes_folder() / release
    try:
        facts = json.loads((folder / _FACTS).read_text())
        box = Box(folder=folder, **{**facts, "extras": tuple(facts["extras"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return box if all(layer.is_file() for layer in box.layers) else None


def needed(release: str) -> Box:
    """The box of `release`; HostError says how to build it."""
    found = find(release)
    if found is None:
        raise HostError(
            f"there is no box of {release} yet",
            hint=f"build it once, in about two minutes: memlab box build --release {release}",
        )
    return found


def publish(box: Box) -> None:
    """Make it the box of its release, at once and whole; what it no longer uses is removed."""
    facts = {name: value for name, value in asdict(box).items() if name != "folder"}
    part = box.folder / f"{_FACTS}.part"
    part.write_text(json.dumps(facts, indent=1) + "\n")
    part.replace(box.folder / _FACTS)
    kept = {_FACTS, "states", "lock", box.base_folder.name, *(path.name for path in box.layers)}
    for path in box.folder.iterdir():
        if path.name not in kept:
            discard(path)


def every() -> list[Box]:
    """All boxes, by release."""
    folder = boxes_folder()
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [box for box in map(find, names) if box is not None]


@contextmanager
def locked(release: str, *, alone: bool) -> Iterator[Path]:
    """The folder of `release`; `alone`: nobody builds, removes or starts from it meanwhile."""
    with cachedir.locked(boxes_folder() / release, alone=alone, variable=VARIABLE) as folder:
        yield folder
