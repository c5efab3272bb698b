"""What a journal says: its header, its entries, and the state that they add up to.

One line is one JSON object that ends in a CRC of the rest. A line that is cut short or damaged is
skipped and counted; a damaged header makes the whole journal one that belongs to nobody.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from memlab.kernel.files import HOST, Roots, read_text, same_value
from memlab.kernel.task import Task

VERSION: Final = 1
MACHINE_ID: Final = Path("/etc/machine-id")
_CRC: Final = ',"crc":"'


@dataclass(frozen=True, slots=True)
class Header:
    """Which run on which machine wrote the journal. `began` is seconds since 1970.

    `results` is the run's own directory, where `restored.json` is put; uid and gid are those of
    the person who started the run (through sudo or not), to whom files are given.
    """

    lab: str
    run: str
    directory: Path
    main: Task
    uid: int
    gid: int
    began: float
    boot: str
    machine: str
    results: Path | None = None

    @classmethod
    def of_this_process(
        cls,
        lab: str,
        run: str,
        directory: Path,
        *,
        results: Path | None = None,
        uid: int | None = None,
        gid: int | None = None,
        roots: Roots = HOST,
    ) -> Header:
        """The header of a run whose main process is the calling one, begun now."""
        return cls(
            lab=lab,
            run=run,
            directory=directory,
            main=Task.myself(roots),
            uid=os.getuid() if uid is None else uid,
            gid=os.getgid() if gid is None else gid,
            began=time.time(),
            boot=boot_id(roots),
            machine=machine_id(),
            results=results,
        )

    def as_json(self) -> dict[str, Any]:
        """The header as it stands in the journal and in the owner's facts."""
        return {
            **asdict(self),
            "version": VERSION,
            "directory": str(self.directory),
            "results": None if self.results is None else str(self.results),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Header | None:
        """The header that `as_json` wrote; None if it is another version's or damaged."""
        try:
            if data["version"] != VERSION:
                return None
            return cls(
                lab=str(data["lab"]),
                run=str(data["run"]),
                directory=Path(data["directory"]),
                main=Task(int(data["main"]["pid"]), int(data["main"]["start_time"])),
                uid=int(data["uid"]),
                gid=int(data["gid"]),
                began=float(data["began"]),
                boot=str(data["boot"]),
                machine=str(data["machine"]),
                results=None if data["results"] is None else Path(data["results"]),
            )
        except (KeyError, TypeError, ValueError):
            return None


def boot_id(roots: Roots = HOST) -> str:
    """The kernel's name for this boot; empty if it has none."""
    return read_text(roots.proc / "sys/kernel/random/boot_id") or ""


def machine_id() -> str:
    """This installation's name; empty in a container without one."""
    return read_text(MACHINE_ID) or ""


class SwapKind(StrEnum):
    """What a swap area of the lab is made of."""

    FILE = "file"
    ZRAM = "zram"


@dataclass(frozen=True, slots=True)
class Knob:
    """A knob that was turned: the value to give back, and the values that it may have from us.

    `ours` ends in what was journalled last; before it stands what the knob had then (the write
    may have been refused, or never made), after it perhaps what the kernel made of it.
    """

    path: Path
    before: str
    ours: tuple[str, ...]

    def is_ours(self, value: str) -> bool:
        """Whether `value` is one that this run wrote."""
        return any(same_value(value, mine) for mine in self.ours)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the run, and the cgroup that it was put into (None: none of its own)."""

    task: Task
    cgroup: Path | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """A swap area of the run: the path of its file or of its zram device."""

    path: Path
    kind: SwapKind


@dataclass(frozen=True, slots=True)
class GuardEntry:
    """A guard of the run, the cgroups made for it, and the cgroup2 group that it was born in."""

    task: Task
    groups: tuple[Path, ...] = ()
    home: Path | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What a journal adds up to. Tuples are in the order of journalling.

    `pages_shared` is KSM's counter before the lab (None: KSM was not touched). `damaged` counts
    lines that could not be read; `header` is None if the first line is one of them.
    """

    header: Header | None = None
    knobs: tuple[Knob, ...] = ()
    cgroups: tuple[Path, ...] = ()
    processes: tuple[Process, ...] = ()
    swaps: tuple[Swap, ...] = ()
    files: tuple[Path, ...] = ()
    networks: tuple[Path, ...] = ()
    guards: tuple[GuardEntry, ...] = ()
    pages_shared: int | None = None
    damaged: int = 0


def encode(entry: Mapping[str, Any]) -> bytes:
    """One line of the journal, with its CRC and its newline."""
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=True)
    return f'{text[:-1]}{_CRC}{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def decode(line: bytes) -> dict[str, Any] | None:
    """The entry of one line; None if the line is half or damaged."""
    text, separator, crc = line.decode("ascii", "replace").rpartition(_CRC)
    whole = text + "}"
    if not separator or crc != f'{zlib.crc32(whole.encode()):08x}"}}':
        return None
    try:
        entry = json.loads(whole)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def parse(raw: bytes) -> Record:
    """The record that the journal's bytes add up to."""
    lines = [line for line in raw.split(b"\n") if line]
    entries = [decode(line) for line in lines]
    good = [entry for entry in entries if entry is not None]
    first = entries[0] if entries else None
    header = Header.from_json(first) if first and first.get("do") == "begin" else None
    record = Record(header=header, damaged=len(entries) - len(good))
    return fold(record, good)


def fold(record: Record, entries: Iterable[Mapping[str, Any]]) -> Record:
    """`record` after `entries`. Entries of kinds that are not known count as damaged."""
    for entry in entries:
        record = _after(record, entry)
    return record


def _after(record: Record, entry: Mapping[str, Any]) -> Record:
    match entry:
        case {"do": "begin"}:
            return record
        case {"do": "knob", "path": str(path), "old": str(old), "new": str(new)}:
            return replace(record, knobs=_turned(record.knobs, Path(path), old, new))
        case {"do": "got", "path": str(path), "value": str(value)}:
            return replace(record, knobs=_got(record.knobs, Path(path), value))
        case {"do": "cgroup", "path": str(path)}:
            return replace(record, cgroups=(*record.cgroups, Path(path)))
        case {"do": "process", "pid": int(pid), "start_time": int(start), "cgroup": group}:
            process = Process(Task(pid, start), Path(group) if group else None)
            return replace(record, processes=(*record.processes, process))
        case {"do": "swap", "path": str(path), "kind": "file" | "zram" as kind}:
            area = Swap(Path(path), SwapKind(kind))
            files = (area.path,) if area.kind is SwapKind.FILE else ()
            return replace(record, swaps=(*record.swaps, area), files=(*record.files, *files))
        case {"do": "file", "path": str(path)}:
            return replace(record, files=(*record.files, Path(path)))
        case {"do": "network", "path": str(path)}:
            named = Path(path)
            return replace(record, networks=(*record.networks, named), files=(*record.files, named))
        case {"do": "ksm", "pages_shared": int(count)}:
            first = count if record.pages_shared is None else record.pages_shared
            return replace(record, pages_shared=first)
        case {"do": "guard", "pid": int(pid), "start_time": int(start), "groups": list(groups)}:
            home = Path(entry["home"]) if entry.get("home") else None
            guard = GuardEntry(Task(pid, start), tuple(Path(group) for group in groups), home)
            return replace(record, guards=(*record.guards, guard))
    return replace(record, damaged=record.damaged + 1)


def _turned(knobs: tuple[Knob, ...], path: Path, old: str, new: str) -> tuple[Knob, ...]:
    """`knobs` after `path` went from `old` to `new`.

    An `old` that is neither ours nor the one before was written by somebody else meanwhile: from
    then on that is the value to give back, since without the lab it is what would stand there.
    """
    known = next((knob for knob in knobs if knob.path == path), None)
    if known is None:
        return (*knobs, Knob(path, old, (new,)))
    foreign = not known.is_ours(old) and not same_value(old, known.before)
    turned = Knob(path, old, (new,)) if foreign else Knob(path, known.before, (old, new))
    return tuple(turned if knob is known else knob for knob in knobs)


def _got(knobs: tuple[Knob, ...], path: Path, value: str) -> tuple[Knob, ...]:
    return tuple(
        replace(knob, ours=(*knob.ours, value)) if knob.path == path else knob for knob in knobs
    )
