"""The micro-guest: a kernel, and an initramfs in which the agent is /init and the only program.

    CACHE/image/RELEASE-KEY/        one kernel; KEY is of its bzImage
        kernel                      unpacked (or the bzImage itself), mapped by all guests
        modules/00-virtio_ring.ko…  what the agent loads, in this order
        initramfs-KEY               with the agent; KEY is of the modules and of the agent
        kernel.json                 release, origin, and the hash of each file; written last

A folder appears at once and whole, and what is taken from it is held against its hash.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memlab.errors import HostError
from memlab.guest import bzimage, cpio, kernels, modules
from memlab.guest.build import agent_path
from memlab.guest.cachedir import (
    UNFINISHED,
    cache_folder,
    discard,
    discard_unfinished,
    locked,
)
from memlab.guest.kernels import Say, Source

VARIABLE: Final = "MEMLAB_IMAGE_DIR"
_FACTS: Final = "kernel.json"
_VERSION: Final = 3
"""Of what is kept of a kernel; another one makes the folders anew."""


@dataclass(frozen=True, slots=True)
class GuestImage:
    """What a micro-guest boots from. `key` changes with every byte of either file."""

    kernel: Path
    initramfs: Path
    release: str
    origin: str
    key: str

    @property
    def size(self) -> int:
        """Bytes of both."""
        return self.kernel.stat().st_size + self.initramfs.stat().st_size


def images_folder() -> Path:
    """Where images are kept."""
    return cache_folder("image", VARIABLE)


def micro_guest(
    kernel: Path | None = None, *, fresh: bool = False, say: Say = lambda _: None
) -> GuestImage:
    """The image with this memlab's agent, made if it is not there. `kernel` is a bzImage.

    `fresh` makes it anew and passes over what is kept. HostError if no kernel can be had.
    """
    with locked(images_folder(), alone=True, variable=VARIABLE) as folder:
        discard_unfinished(folder)
        kept = None if fresh else _kept(folder, kernel)
        if kept is None:
            with _source(kernel, say) as source:
                kept = _keep(folder, source, say)
        return _with_agent(kept)


def every() -> list[GuestImage]:
    """All images that are kept, with this memlab's agent, newest first."""
    return [_with_agent(folder) for folder in _newest_first(images_folder())]


@contextmanager
def _source(kernel: Path | None, say: Say) -> Iterator[Source]:
    """The kernel that is named, or the host's own, or else the distribution's."""
    found = kernels.named(kernel) if kernel else kernels.of_host()
    if found is not None:
        yield found
        return
    with kernels.fetched(say) as found:
        yield found


def _kept(folder: Path, kernel: Path | None) -> Path | None:
    """The kept kernel that is meant: of this bzImage, or the newest one."""
    if kernel is not None:
        raw = bzimage.read(kernel)
        found = folder / _folder_name(bzimage.release(raw, str(kernel)), raw)
        return found if (found / _FACTS).is_file() else None
    return next(iter(_newest_first(folder)), None)


def _newest_first(folder: Path) -> list[Path]:
    """The folders of this version's kernels."""
    found = sorted(folder.glob(f"*/{_FACTS}"), key=lambda path: -path.stat().st_mtime)
    return [path.parent for path in found if _facts(path.parent).get("version") == _VERSION]


def _folder_name(release: str, raw: bytes) -> str:
    return f"{release}-{_hash(raw, str(_VERSION).encode())[:8]}"


def _keep(folder: Path, source: Source, say: Say) -> Path:
    """Take over what is wanted of a kernel. An older folder of the same kernel is replaced."""
    raw = bzimage.read(source.image)
    target = folder / _folder_name(source.release, raw)
    plain = bzimage.unpacked(raw)
    if plain is None:
        tool = bzimage.tool_for(raw) or "a tool that is not known"
        say(f"this kernel is packed for {tool}, which is not here: guests unpack it themselves")
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder) as made:
        work = Path(made) / "new"
        (work / "modules").mkdir(parents=True)
        (work / "kernel").write_bytes(raw if plain is None else plain)
        found = modules.find(source.modules) if source.modules else []
        for number, module in enumerate(found):
            (work / f"modules/{number:02d}-{module.name}").write_bytes(module.content)
        facts = {
            "version": _VERSION, "release": source.release, "origin": source.origin,
            "unpacked": plain is not None, "sha256": _hash((work / "kernel").read_bytes()),
        }  # fmt: skip
        (work / _FACTS).write_text(json.dumps(facts, indent=1) + "\n")
        _publish(work, target)
    say(f"kernel {source.release}: {source.origin}")
    return target


def _publish(work: Path, target: Path) -> None:
    for path in (work, *work.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if target.exists():
        discard(target)
    work.rename(target)


def _with_agent(folder: Path) -> GuestImage:
    """The image of a kept kernel, its initramfs made if there is none with this agent."""
    facts = _facts(folder)
    agent = agent_path().read_bytes()
    loaded = sorted((folder / "modules").iterdir())
    key = _hash(agent, *(path.read_bytes() for path in loaded))[:12]
    target = folder / f"initramfs-{key}"
    files = {"init": (agent, 0o755)}
    files |= {f"modules/{path.name}": (path.read_bytes(), 0o644) for path in loaded}
    content = cpio.archive(files, ("modules", "dev", "proc", "sys"))
    if not target.is_file() or target.read_bytes() != content:
        part = target.with_suffix(".part")
        part.write_bytes(content)
        part.replace(target)
    for old in folder.glob("initramfs-*"):
        if old != target:
            old.unlink()
    if _hash((folder / "kernel").read_bytes()) != facts["sha256"]:
        raise HostError(
            f"{folder / 'kernel'} is not what was kept there",
            hint="make it anew: memlab image build --fresh",
        )
    return GuestImage(
        folder / "kernel", target, facts["release"], facts["origin"],
        key=f"{facts['sha256'][:12]}-{key}",
    )  # fmt: skip


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_text())
    except (OSError, ValueError) as error:
        raise HostError(
            f"{folder} holds no kernel that can be used: {error}",
            hint="make it anew: memlab image build --fresh",
        ) from error
    return facts


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
