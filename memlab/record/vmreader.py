"""What the sampler reads of one VM: its group, its process, its page tables and its board.

A VM that has ended, even between two of these, gives no row; a column that its kind of VM or this
kernel cannot tell is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from memlab.guest.wire import BOARD_FIELDS
from memlab.kernel.files import HOST, KeptFile, Roots, read_text
from memlab.kernel.pagemap import PageClasses, PageWalker
from memlab.kernel.picker import Picker
from memlab.kernel.procs import parse_swapped
from memlab.kernel.referenced import Referenced
from memlab.kernel.taskstats import Taskstats, delayacct
from memlab.record.board import Board, Selection
from memlab.record.held import HeldReader, Keep, OfGroup, OfProcess
from memlab.record.reading import GroupReader, Values, cpu_ns, number, stalls
from memlab.record.sample import (
    BALANCE,
    GUEST_FAST,
    GUEST_MEDIUM,
    MEMORY_STAT,
    TOLD,
    VM_DEEP,
    VM_FAST,
    VM_MEDIUM,
    Row,
)
from memlab.units import PAGE
from memlab.vm.base import Target

_NO_GUEST: Final = (None,) * len(BOARD_FIELDS)
_BALANCE, _FAST, _MEDIUM = Selection(BALANCE), Selection(GUEST_FAST), Selection(GUEST_MEDIUM)
_CLASSES: Final = ("private", "shared", "zero", "out", "not_backed")

_KSM: Final = ("ksm_merging_pages", "ksm_zero_pages", "ksm_rmap_items")
_DELAYS: Final = ("swapin", "thrashing", "freepages", "wpcopy")
_NO_DELAYS: Final = (None,) * len(_DELAYS)

# `fast` and `medium` put their values in these orders, without looking at a name.
assert VM_FAST.names == (
    *("usage", "resident_pages", "file_pages", "minor_faults", "major_faults"),
    *(f"guest_{name}" for name in GUEST_FAST),
)
assert VM_MEDIUM.names == (
    *(*MEMORY_STAT, "stall_some_us", "stall_full_us", *_KSM),
    *(f"guest_{name}" for name in GUEST_MEDIUM),
    *("swapin_delay_ns", "thrashing_delay_ns", "reclaim_delay_ns", "copy_delay_ns"),
    *("cpu_ns", "referenced_pages", "referenced_cpu_us"),
    *TOLD,
)


@dataclass(frozen=True, slots=True)
class Walk:
    """One VM of a deep sample: the raw columns known so far, and what its page tables said."""

    vm: str
    values: Values
    classes: PageClasses | None


class VmReader:
    """One VM, with its files kept open until `close`."""

    def __init__(
        self,
        target: Target,
        board_fd: int | None = None,
        *,
        delays: Taskstats | None = None,
        referenced: float = 0.0,
        roots: Roots = HOST,
    ) -> None:
        """`delays` asks for the waiting times of the VM's tasks, where they are counted,
        `referenced` for a look at its accessed bits every so many seconds."""
        self.target = target
        self._told: dict[str, int | None] = dict.fromkeys(TOLD)
        self._looks: Referenced | None = None
        if referenced and target.ram_start is not None and target.ram_bytes is not None:
            self._looks = Referenced(
                target.pid, target.ram_start, target.ram_bytes, referenced, roots=roots
            )
        # A task that began while the switch was off would say 0 for ever: not known.
        self._delays = delays if delayacct(roots) else None
        self._merges_zeros = read_text(roots.ksm / "use_zero_pages") == "1"
        self._pick_ksm = Picker([name.encode() for name in _KSM])
        with ExitStack() as stack:
            self._open(target, board_fd, roots, stack)
            self._open_files = stack.pop_all()

    def _open(self, target: Target, board: int | None, roots: Roots, stack: ExitStack) -> None:
        def keep(path: Path) -> KeptFile:
            return stack.enter_context(KeptFile(path))

        process = roots.proc / str(target.pid)
        self._group = GroupReader(target.memory_group, target.unified_group, stack)
        self._ksm, self._status = keep(process / "ksm_stat"), keep(process / "status")
        self._merging: KeptFile | None = None
        if _KSM[0].encode() not in (self._ksm.read() or b""):
            self._merging = keep(process / _KSM[0])  # before 6.4 it is not in ksm_stat
        self._board: Board | None = None
        if board is not None:
            self._board = Board(board, target.name)
            stack.callback(self._board.close)
        self._held = self._open_held(process, keep)
        self._walker: PageWalker | None = None
        if target.ram_start is not None and target.ram_bytes is not None:
            walker = PageWalker(target.pid, target.ram_start, target.ram_bytes, roots)
            self._walker = stack.enter_context(walker)

    def _open_held(self, process: Path, keep: Keep) -> HeldReader:
        if self.target.ram_start is None:
            return OfGroup(process, self._group.stat_file, keep)
        # The agent of a process VM counts its own; that of a virtual machine counts its guest's.
        own = self._board is not None and self._board.frames > 0
        return OfProcess(process, keep, faults=not own)

    def fast(self) -> Row | None:
        """A row of vm_fast; None if the VM has ended."""
        held = self._held.read()
        if held is None:
            return None
        return (number(self._group.usage), *held, *self._guest(_FAST))

    def _guest(self, chosen: Selection) -> tuple[int | None, ...]:
        said = None if self._board is None else self._board.counters(chosen)
        return chosen.of(_NO_GUEST) if said is None else said

    def medium(self) -> Row | None:
        """A row of vm_medium; None if the VM has ended."""
        stat, ksm = self._group.stat(), self._ksm.read()
        if stat is None or (ksm is None and self._held.read() is None):
            return None
        return (
            *stat[: len(MEMORY_STAT)],
            *stalls(self._group.pressure),
            *self._merges(ksm),
            *self._guest(_MEDIUM),
            *self._waits(),
            self._cpu_ns(),
            *self._used(),
            *self._told.values(),
        )

    def _cpu_ns(self) -> int | None:
        found = self._group.cpu_ns()
        return cpu_ns(self.target.pid) if found is None else found

    def _merges(self, raw: bytes | None) -> tuple[int | None, ...]:
        found = self._pick_ksm(raw)
        if self._merging is None:
            return found
        own = self._merging.read()  # empty once the process has ended
        return (int(own) if own else None, *found[1:])

    def told(self, columns: Mapping[str, int | None]) -> None:
        """What the session has found of this VM, for the next rows of vm_medium."""
        self._told |= {name: value for name, value in columns.items() if name in self._told}

    def _used(self) -> tuple[int | None, int | None]:
        """Pages used in the last period, and what looking has cost so far, µs."""
        if self._looks is None:
            return None, None
        found = self._looks.look()
        return found.pages, found.cpu_us

    def _waits(self) -> tuple[int | None, ...]:
        found = self._delays.of_group(self.target.pid) if self._delays else None
        return _NO_DELAYS if found is None else found.ns(_DELAYS)

    def latency(self) -> list[tuple[int, int]]:
        """Buckets of the histogram that have grown since the last call, with their counts."""
        return self._board.changed_buckets() if self._board else []

    def deep(self, clock: Callable[[], int]) -> Walk | None:
        """The page tables, between two looks at the guest's counters; None if the VM has ended."""
        began, before = clock(), self._guest(_BALANCE)
        classes = None
        if self._walker is not None:
            classes = self._walker.walk(self._frame_map())
            if classes is None:
                return None
        after, ended, held = self._guest(_BALANCE), clock(), self._held.read()
        if held is None:
            return None
        values: Values = {"began": began, "ended": ended}
        values |= {"resident_pages": held.resident, "file_pages": held.files}
        values |= {f"before_{name}": value for name, value in zip(BALANCE, before, strict=True)}
        values |= {f"after_{name}": value for name, value in zip(BALANCE, after, strict=True)}
        if classes is not None:
            values |= {name: getattr(classes, name) for name in _CLASSES}
            values |= self._without_reads(classes)
            out = parse_swapped(self._status.read() or b"")
            values["swap_entries"] = None if out is None else out // PAGE
            values["frames_differ"] = classes.frames_differ
            values["frames_moving"] = classes.frames_moving
        if (frames := self._frame_map()) is not None:
            values["frames_touched"] = bytes(frames).count(1)
        return Walk(self.target.name, values, classes)

    def _without_reads(self, classes: PageClasses) -> Values:
        """Pages that were only read have the zero page too, and neither frame nor slot: they are
        not backed. A QEMU that restores a guest leaves all its empty pages so."""
        merged = self._pick_ksm(self._ksm.read())[_KSM.index("ksm_zero_pages")]
        if merged is None and self._merges_zeros:
            return {}  # before 6.6 nothing tells the two apart
        read = classes.zero - min(merged or 0, classes.zero)
        return {"zero": classes.zero - read, "not_backed": classes.not_backed + read}

    def _frame_map(self) -> memoryview | None:
        if self._board is None or self.target.ram_bytes is None or not self._board.frames:
            return None
        return self._board.frame_map(self.target.ram_bytes // PAGE)

    def close(self) -> None:
        """Close the files; closing twice is harmless."""
        self._open_files.close()


def deep_rows(walks: list[Walk]) -> tuple[int, list[tuple[str, Row]]]:
    """Distinct frames behind the shared pages of all VMs, and the rows of vm_deep.

    A VM's fair part of the frames (`common`) is 1/n of each frame that n pages of the lab map.
    """
    mapped: Counter[int] = Counter()
    for walk in walks:
        if walk.classes is not None:
            mapped.update(chain.from_iterable(walk.classes.frames))
    rows = []
    for walk in walks:
        values = walk.values
        if walk.classes is not None:
            pages = chain.from_iterable(walk.classes.frames)
            times = Counter(map(mapped.__getitem__, pages))
            part = sum(count / mappers for mappers, count in times.items())
            values = values | {"common_bytes": round(part * PAGE)}
        rows.append((walk.vm, VM_DEEP.row(values)))
    return len(mapped), rows
