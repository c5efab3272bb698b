"""What commands in the box have written, brought out while they run.

Inside, a folder is looked through again and again. A log is sent from where it was left, any other
file that has changed is sent whole, and a SQLite file together with its `-wal` so that outside too
the two belong together at any moment: SQLite reads them, and a torn end as the end. Outside, whole
files are put in place at `settled`, by renaming. Removals are not carried over, but for a `-wal`
that has been taken into its file.
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

WAL: Final = "-wal"
LOGS: Final = (".log", ".jsonl")
"""Ends of the names of files that only grow."""
LEFT_ALONE: Final = ("-shm", ".memlab-part")
"""Not sent: SQLite's index of its `-wal` is made anew by whoever reads, and must be."""
_ATTEMPTS: Final = 10
_HEAD: Final = 32
_FRAME: Final = 24
"""Bytes of a `-wal`'s header and of the header of each page in it (sqlite.org/fileformat2.html)."""

Send = Callable[..., None]
"""send(kind, data, **facts), as `wire.encode` takes them."""


@dataclass(slots=True)
class _Seen:
    """A file as it was sent. `salt`: of a -wal, which is begun anew with another one."""

    inode: int
    changed: int
    size: int
    sent: int = 0
    salt: bytes = b""


class Watch:
    """The inner half: `scan` sends what has changed below `root` since the last time."""

    def __init__(self, root: Path, send: Send) -> None:
        self._root = root
        self._send = send
        self._seen: dict[str, _Seen] = {}

    def scan(self) -> bool:
        """Send what has changed; whether there was anything."""
        found = dict(self._walk(self._root))
        logged = {name.removesuffix(WAL) for name in found if name.endswith(WAL)}
        moved = False
        for name, status in found.items():
            if name in logged:
                moved |= self._database(name)
            elif name.endswith(LOGS):
                moved |= self._grown(name)
            elif not name.endswith(WAL):
                moved |= self._changed(name, status)
        gone = [name for name in self._seen if name not in found and name.endswith(WAL)]
        if moved or gone:
            self._send("settled", b"", gone=gone)
        for name in [name for name in self._seen if name not in found]:
            del self._seen[name]
        return moved

    def _walk(self, folder: Path) -> Iterator[tuple[str, os.stat_result]]:
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._walk(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False) and not _is_left(entry.name):
                        status = entry.stat(follow_symlinks=False)
                        yield os.path.relpath(entry.path, self._root), status

    def _database(self, name: str) -> bool:
        """Send a SQLite file and its -wal as they were at one moment, or as good as that.

        What is taken from the -wal into the file stands in the -wal until that is begun anew. So
        if that has not happened between, the file as it was read, be it half written, and the
        -wal as it was read after it, are together what was committed.
        """
        for _ in range(_ATTEMPTS):
            try:
                before = self._salt(name)
                moved = self._changed(name, (self._root / name).stat())
                found = self._logged(name + WAL, before)
            except FileNotFoundError:
                return False
            if found is not None:
                return moved or found
            self._seen.pop(name, None)
        return False

    def _salt(self, name: str) -> bytes:
        with (self._root / (name + WAL)).open("rb") as file:
            return file.read(_HEAD)

    def _logged(self, name: str, salt: bytes) -> bool | None:
        """Send the new pages of a -wal; whether there were any, None if it was begun anew."""
        with (self._root / name).open("rb") as file:
            if file.read(_HEAD) != salt:
                return None
            seen = self._seen.get(name)
            anew = seen is None or seen.salt != salt
            if seen is None or anew:
                seen = self._seen[name] = _Seen(0, 0, 0, 0, salt)
            start = seen.sent or len(salt)
            file.seek(start)
            pages = _pages(file.read(), salt)
        data = (salt if not seen.sent else b"") + pages
        for at in range(0, len(data), CHUNK):
            piece = data[at : at + CHUNK]
            self._send("file", piece, path=name, at=seen.sent + at, mode=0o644, grow=not anew)
        seen.sent += len(data)
        return bool(data)

    def _grown(self, name: str) -> bool:
        """Send the new end of a log."""
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


def _pages(data: bytes, salt: bytes) -> bytes:
    """The whole pages at the begin of `data` that belong to the -wal with this header."""
    if len(salt) < _HEAD:
        return b""
    size = _FRAME + int.from_bytes(salt[8:12], "big")
    end = 0
    while end + size <= len(data) and data[end + 8 : end + 16] == salt[16:24]:
        end += size
    return data[:end]


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
        # A file before its -wal: with the older one it is whole too, the other way round it is not.
        for place, (file, mode) in sorted(self._staged.items()):
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
