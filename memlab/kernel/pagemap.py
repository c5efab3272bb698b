"""What backs each page of a mapping, counted from the page tables: the hot path of deep reads.

`/proc/PID/pagemap` (2.6.25) has a u64 a page: bit 63 present, 62 swapped, 56 mapped by nobody else
(exclusive), bits 0–54 the frame number or swap slot (root only). A strided slice of the bytes is
the byte of flags of each page, at C speed, and a table look-up makes it a class to count; frame
numbers are taken out only of pieces that have non-exclusive pages. An entry changes only when its
page is mapped, merged, copied, moved or swapped, so most pieces are byte for byte what they were
at the last walk, and then nothing of them is counted anew.

Pieces of 2 MiB, so that the VM's mmap_lock is never held long (one large read raised the p99.9 of
the VM's own mmap from 0.04 to 9 ms). A page that moves during a walk is counted where it was met.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from array import array
from collections.abc import Iterable, Iterator
from ctypes import addressof, c_char
from dataclasses import dataclass
from functools import cache
from itertools import chain, compress
from typing import Final, Self

from memlab.errors import HostError, KernelError
from memlab.kernel.files import HOST, Roots
from memlab.kernel.kpage import KPF_ZERO_PAGE, read_flags
from memlab.kernel.pagemap_scan import Category, PageRun, Scanner, Unsupported
from memlab.units import MIB, PAGE

PIECE: Final = 2 * MIB
SCAN_PIECE: Final = 16 * MIB
"""PAGEMAP_SCAN holds the lock for less: the VM's mmap p99.9 is 0.07 ms with pieces of 16 MiB."""

ENTRY: Final = 8
NUMBER_MASK: Final = (1 << 55) - 1
_HIGH_BYTES: Final = (
    (slice(7, None, ENTRY), slice(6, None, ENTRY))
    if sys.byteorder == "little"
    else (slice(0, None, ENTRY), slice(1, None, ENTRY))
)
_FLAGS: Final = _HIGH_BYTES[0]

_NOT_BACKED, _PRIVATE, _NOT_EXCLUSIVE, _OUT = range(4)


def _class_of(flags: int) -> int:
    if flags & 0x80:
        return _PRIVATE if flags & 0x01 else _NOT_EXCLUSIVE
    return _OUT if flags & 0x40 else _NOT_BACKED


_CLASS: Final = bytes(_class_of(flags) for flags in range(256))
"""Byte of flags → class. File, write-protect and guard bits make no difference."""


def _only(*kinds: int) -> bytes:
    return bytes(int(kind in kinds) for kind in range(256))


_BACKED: Final = _only(_PRIVATE, _NOT_EXCLUSIVE, _OUT)
_SHARED: Final = _only(_NOT_EXCLUSIVE)
_SLOT: Final = _only(_OUT)


@dataclass(frozen=True, slots=True)
class PageClasses:
    """A walk of one mapping: five counts of pages, none of them a remainder, and the frames.

    `shared` = present, not exclusive, not the kernel's zero page: merged by KSM while another page
    shares the frame (or shared by fork, or page cache). A merged page whose last sharer has gone
    is exclusive, thus private. `frames` has the frame of each shared page, in pieces, with
    repetitions; `swap_slots` the distinct slots behind `out` (None unless asked for).
    `frames_differ`: pages on which the guest's list and the page tables disagree; `frames_moving`:
    pages whose entry in that list changed while its piece was read (None without a list).
    """

    private: int
    shared: int
    zero: int
    out: int
    not_backed: int
    frames: tuple[tuple[int, ...], ...]
    swap_slots: int | None = None
    frames_differ: int | None = None
    frames_moving: int | None = None

    @property
    def total(self) -> int:
        """Pages counted: those of the mapping, unless the process ended meanwhile."""
        return self.private + self.shared + self.zero + self.out + self.not_backed

    @property
    def shared_frames(self) -> set[int]:
        """The distinct machine frames behind the shared pages."""
        return set().union(*self.frames)


def unique_frames(walks: Iterable[PageClasses]) -> int:
    """Distinct machine frames behind the shared pages of several VMs. 50–60 ns a shared page."""
    return len(set().union(*chain.from_iterable(walk.frames for walk in walks)))


@dataclass(frozen=True, slots=True)
class _Piece:
    """The counts of 2 MiB, and the bytes they were counted from."""

    data: bytes
    private: int
    shared: int
    zero: int
    out: int
    not_backed: int
    frames: tuple[int, ...]


class PageWalker:
    """Walks one mapping of one process again and again; the file stays open.

    `start` and `length` are bytes, whole pages. Root only, for the frame numbers. Keeps 16 B of
    memory a page of the VM, and 40 B more a shared one.

    CPU, user and system, µs per MiB of 4 KiB pages, seen on a noisy host where the kernel's own
    part was 8.8 (6.5 on a quiet one; 2.5 where all is out): a piece that did not change + 0.3; one
    that did + 2.4; + 70 ns a shared page; the frame list + 1. `unique_frames` 50 ns a shared page.
    `count`: 6 for all categories, 2 for SWAPPED alone; swap slots 80 ns each.
    """

    def __init__(self, pid: int, start: int, length: int, roots: Roots = HOST) -> None:
        if start % PAGE or length % PAGE or length <= 0:
            raise ValueError(f"not whole pages: {start:#x} + {length}")
        self.start = start
        self.length = length
        self._roots = roots
        self._zero_frame = zero_frame()
        self._pieces: dict[int, _Piece] = {}
        self.path = roots.proc / str(pid) / "pagemap"
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(self.path, "open", error.errno or 0) from error
        self._scanner = Scanner(self._fd)

    def walk(
        self, frame_map: memoryview | None = None, *, swap_slots: bool = False
    ) -> PageClasses | None:
        """The classes of all pages now; None if the process has ended.

        `frame_map` has one byte a page, 1 = touched and not given back, and may be changing: it is
        read before and after each piece, and only what stood still is held against the piece.
        """
        pieces: list[_Piece] = []
        differ = moving = 0
        for address, end in self._bounds():
            first, last = (address - self.start) // PAGE, (end - self.start) // PAGE
            before = bytes(frame_map[first:last]) if frame_map is not None else b""
            data = self._read(address, last - first)
            if len(data) < (last - first) * ENTRY:
                return None  # the process ended: its page tables are gone
            if frame_map is not None:
                more = _compare(data, before, bytes(frame_map[first:last]))
                differ, moving = differ + more[0], moving + more[1]
            pieces.append(self._piece(address, data))
        return PageClasses(
            private=sum(piece.private for piece in pieces),
            shared=sum(piece.shared for piece in pieces),
            zero=sum(piece.zero for piece in pieces),
            out=sum(piece.out for piece in pieces),
            not_backed=sum(piece.not_backed for piece in pieces),
            frames=tuple(piece.frames for piece in pieces if piece.frames),
            swap_slots=_count_slots(pieces) if swap_slots else None,
            frames_differ=differ if frame_map is not None else None,
            frames_moving=moving if frame_map is not None else None,
        )

    def _bounds(self, size: int = PIECE) -> Iterator[tuple[int, int]]:
        """From one boundary to the next; huge pages begin at those of 2 MiB."""
        address, end = self.start, self.start + self.length
        while address < end:
            stop = min(address // size * size + size, end)
            yield address, stop
            address = stop

    def _read(self, address: int, count: int) -> bytes:
        try:
            return os.pread(self._fd, count * ENTRY, address // PAGE * ENTRY)
        except OSError as error:
            if error.errno == errno.ESRCH:
                return b""
            raise KernelError(self.path, "read", error.errno or 0) from error

    def _piece(self, address: int, data: bytes) -> _Piece:
        piece = self._pieces.get(address)
        if piece is None or piece.data != data:
            piece = self._pieces[address] = self._count(data)
        return piece

    def _count(self, data: bytes) -> _Piece:
        kinds = data[_FLAGS].translate(_CLASS)
        frames: tuple[int, ...] = ()
        zero = 0
        if not_exclusive := kinds.count(_NOT_EXCLUSIVE):
            frames = self._without_zero(_numbers(data, kinds.translate(_SHARED)))
            zero = not_exclusive - len(frames)
        return _Piece(
            data=data,
            private=kinds.count(_PRIVATE),
            shared=len(frames),
            zero=zero,
            out=kinds.count(_OUT),
            not_backed=kinds.count(_NOT_BACKED),
            frames=frames,
        )

    def _without_zero(self, frames: tuple[int, ...]) -> tuple[int, ...]:
        """The frames that are not the zero page (which KSM's use_zero_pages maps as well)."""
        if self._is_huge_zero(frames):
            return ()
        zero = self._zero_frame
        return tuple(filter(zero.__ne__, frames)) if zero in frames else frames

    def _is_huge_zero(self, frames: tuple[int, ...]) -> bool:
        """Whether these are the huge zero page: 512 frames in a row that the kernel calls zero."""
        if len(frames) * PAGE != PIECE or frames[-1] - frames[0] != len(frames) - 1:
            return False
        return bool(read_flags(frames[:1], self._roots)[0] & KPF_ZERO_PAGE)

    def runs(self, any_of: Category) -> list[PageRun] | None:
        """Runs of pages in any of these categories, by PAGEMAP_SCAN; None on kernels without."""
        try:
            found = (self._scanner.runs(*bounds, any_of) for bounds in self._bounds(SCAN_PIECE))
            return list(chain.from_iterable(found))
        except Unsupported:
            return None

    def count(self, any_of: Category) -> int | None:
        """Pages in any of PRESENT, SWAPPED and PFNZERO: the second way to count.

        By PAGEMAP_SCAN, else by a walk; None if the process has ended (by a walk only: the ioctl
        finds an empty address space then, and counts 0).
        """
        try:
            return sum(self._scanner.count(*bounds, any_of) for bounds in self._bounds(SCAN_PIECE))
        except Unsupported:
            return self._count_by_walk(any_of)

    def _count_by_walk(self, any_of: Category) -> int | None:
        seen = self.walk()
        if seen is None:
            return None
        present = seen.private + seen.shared + seen.zero if Category.PRESENT in any_of else 0
        zero = seen.zero if Category.PFNZERO in any_of and not present else 0
        return present + zero + (seen.out if Category.SWAPPED in any_of else 0)

    def close(self) -> None:
        """Give the descriptor back. Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _numbers(data: bytes, wanted: bytes) -> tuple[int, ...]:
    """Frame numbers or swap slots of the entries whose byte in `wanted` is 1.

    The two high bytes are flags; the 55 bits of a number never reach them (2^48 pages are 1 YiB).
    """
    entries = bytearray(data)
    for high in _HIGH_BYTES:
        entries[high] = bytes(len(wanted))
    return tuple(compress(array("Q", bytes(entries)), wanted))


def _count_slots(pieces: Iterable[_Piece]) -> int:
    """Distinct swap slots: a merged page that went out has one slot for all who map it."""
    slots: set[int] = set()
    for piece in pieces:
        if piece.out:
            slots.update(
                _numbers(piece.data, piece.data[_FLAGS].translate(_CLASS).translate(_SLOT))
            )
    return len(slots)


def _compare(data: bytes, before: bytes, after: bytes) -> tuple[int, int]:
    """Pages on which list and page tables differ, and pages that moved in the list meanwhile."""
    backed = data[_FLAGS].translate(_CLASS).translate(_BACKED)
    if backed == before == after:
        return 0, 0
    tables, first, then = (int.from_bytes(each, "little") for each in (backed, before, after))
    return ((tables ^ first) & (tables ^ then)).bit_count(), (first ^ then).bit_count()


@cache
def zero_frame() -> int:
    """Frame number of the kernel's zero page, learnt from a page of our own that was only read.

    HostError if this process may not see frame numbers (CAP_SYS_ADMIN).
    """
    with mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        assert page[0] == 0  # the read maps the zero page
        view = c_char.from_buffer(page)
        address = addressof(view)
        del view
        fd = os.open(HOST.proc / "self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            entry = os.pread(fd, ENTRY, address // PAGE * ENTRY)
        finally:
            os.close(fd)
    frame = int.from_bytes(entry, sys.byteorder) & NUMBER_MASK
    if frame == 0:
        raise HostError(
            "the kernel hides frame numbers from this process",
            hint="Deep samples need root (CAP_SYS_ADMIN in the first user namespace).",
        )
    return frame
