"""What commands in the box have written, brought out while they run.

Inside, a folder is looked through again and again. A file that only grows (SQLite's `-wal`, logs)
is sent from where it was left; any other that has changed is sent whole. Outside, whole files are
put in place together, at `settled`, by renaming. So a recording is readable at any moment: its
`-wal` is always at least as new as the file that it belongs to, and SQLite reads a torn end as the
end. Removals are not carried over, but for a `-wal` that has been taken into its file.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from memlab.box.wire import CHUNK, Message, WireError

GROWING: Final = ("-wal", ".log", ".jsonl")
"""Ends of the names of files that only grow."""
LEFT_ALONE: Final = ("-shm", ".memlab-part")
"""Not sent: SQLite's index of its `-wal` is made anew by whoever reads, and must be."""

Send = Callable[..., None]
"""send(kind, data, **facts), as `wire.encode` takes them."""


@dataclass(slots=True)
class _Seen:
    inode: int
    changed: int
    size: int
    sent: int = 0


class Watch:
    """The inner half: `scan` sends what has changed below `root` since the last time."""

    def __init__(self, root: Path, send: Send) -> None:
        self._root = root
        self._send = send
        self._seen: dict[str, _Seen] = {}

    def scan(self) -> bool:
        """Send what has changed; whether there was anything."""
        found = dict(self._walk(self._root))
        growing = [name for name in found if name.endswith(GROWING)]
        whole = [name for name in found if not name.endswith(GROWING)]
        moved = [self._grown(name) for name in growing]
        moved += [self._changed(name, found[name]) for name in whole]
        if any(moved):
            # What was taken into a file after its -wal had been read stands in the -wal by now.
            moved += [self._grown(name) for name in growing]
        gone = [name for name in self._seen if name not in found and name.endswith("-wal")]
        if any(moved) or gone:
            self._send("settled", b"", gone=gone)
        for name in [name for name in self._seen if name not in found]:
            del self._seen[name]
        return any(moved)

    def _walk(self, folder: Path) -> Iterator[tuple[str, os.stat_result]]:
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._walk(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False) and not _is_left(entry.name):
                        status = entry.stat(follow_symlinks=False)
                        yield os.path.relpath(entry.path, self._root), status

    def _grown(self, name: str) -> bool:
        """Send the new end of a growing file."""
        try:
            with (self._root / name).open("rb") as file:
                status = os.fstat(file.fileno())
                seen = self._seen.get(name)
                if seen is None or seen.inode != status.st_ino or status.st_size < seen.sent:
                    seen = self._seen[name] = _Seen(status.st_ino, 0, 0)
                    self._send("file", b"", path=name, at=0, mode=status.st_mode & 0o777, grow=True)
                elif status.st_size == seen.sent:
                    return False
                file.seek(seen.sent)
                while piece := file.read(CHUNK):
                    self._send("file", piece, path=name, at=seen.sent, grow=True)
                    seen.sent += len(piece)
        except FileNotFoundError:
            return False
        return True

    def _changed(self, name: str, status: os.stat_result) -> bool:
        """Send a file whole if it is not as it was sent."""
        seen = self._seen.get(name)
        now = _Seen(status.st_ino, status.st_mtime_ns, status.st_size)
        if seen == now:
            return False
        try:
            with (self._root / name).open("rb") as file:
                at = 0
                while (piece := file.read(CHUNK)) or not at:
                    mode = stat.S_IMODE(status.st_mode)
                    self._send("file", piece, path=name, at=at, mode=mode, grow=False)
                    at += len(piece)
                    if not piece:
                        break
        except FileNotFoundError:
            return False
        self._seen[name] = now
        return True


def _is_left(name: str) -> bool:
    return name.endswith(LEFT_ALONE)


class Landing:
    """The outer half: puts what comes below `root`, and nowhere else."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staged: dict[Path, tuple[IO[bytes], int]] = {}

    def take(self, message: Message) -> bool:
        """Do what a `file` or `settled` message says; whether files are now as inside."""
        if message.kind == "file":
            self._file(message)
            return False
        self._settle([self._place(str(name)) for name in message.facts["gone"]])
        return True

    def close(self) -> None:
        """Drop what was never settled."""
        for file, _ in self._staged.values():
            file.close()
        self._staged.clear()

    def _place(self, name: str) -> Path:
        path = Path(name)
        if path.is_absolute() or ".." in path.parts:
            raise WireError(f"the box names a file outside its folder: {name}")
        place = self._root / path
        if not place.parent.resolve().is_relative_to(self._root.resolve()):
            raise WireError(f"the box names a file outside its folder: {name}")
        return place

    def _file(self, message: Message) -> None:
        place, at = self._place(str(message.facts["path"])), int(message.facts["at"])
        mode = int(message.facts.get("mode", 0o644))
        if message.facts["grow"]:
            _grow(place, at, mode, message.data)
            return
        if at == 0 and place in self._staged:
            self._staged.pop(place)[0].close()
        if place not in self._staged:
            self._staged[place] = tempfile.TemporaryFile(), mode  # noqa: SIM115 — until settled
        file, _ = self._staged[place]
        file.seek(at)
        file.write(message.data)

    def _settle(self, gone: list[Path]) -> None:
        for place, (file, mode) in self._staged.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_name(f"{place.name}.memlab-part")
            file.seek(0)
            with part.open("wb") as copy:
                while piece := file.read(CHUNK):
                    copy.write(piece)
            part.chmod(mode)
            part.replace(place)
        self.close()
        for place in gone:
            place.unlink(missing_ok=True)
            place.with_name(place.name.removesuffix("-wal") + "-shm").unlink(missing_ok=True)


def _grow(place: Path, at: int, mode: int, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    # Never through a link: the folder is the user's, the names are the box's.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_TRUNC if at == 0 else 0)
    fd = os.open(place, flags, mode)
    try:
        os.pwrite(fd, data, at)
    finally:
        os.close(fd)
