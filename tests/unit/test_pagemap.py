"""The counting of page classes, on our own process (no root) and on entries made up."""

from __future__ import annotations

import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlab.kernel import pagemap
from memlab.kernel.files import Roots
from memlab.kernel.pagemap import PageClasses, PageWalker, unique_frames
from memlab.kernel.pagemap_scan import Category

PAGE = 4096
ZERO = 777
PRESENT, SWAPPED, FILE, SOFT_DIRTY, EXCLUSIVE = (1 << bit for bit in (63, 62, 61, 55, 56))


@pytest.fixture(autouse=True)
def a_known_zero_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagemap, "zero_frame", lambda: ZERO)


def walker_of(tmp_path: Path, entries: list[int], *, first: int = 5) -> PageWalker:
    (tmp_path / "9").mkdir(exist_ok=True)
    (tmp_path / "9/pagemap").write_bytes(bytes(8 * first) + array("Q", entries).tobytes())
    return PageWalker(9, first * PAGE, len(entries) * PAGE, Roots(proc=tmp_path))


def test_each_kind_of_entry(tmp_path: Path) -> None:
    entries = [
        0,
        PRESENT | EXCLUSIVE | 11,
        PRESENT | EXCLUSIVE | FILE | SOFT_DIRTY | 12,
        PRESENT | 13,
        PRESENT | SOFT_DIRTY | 13,
        PRESENT | FILE | 14,
        PRESENT | ZERO,
        PRESENT | SOFT_DIRTY | ZERO,
        SWAPPED | (8 << 5) | 1,
        SWAPPED | SOFT_DIRTY | (8 << 5) | 1,
        SWAPPED | (9 << 5) | 1,
        1 << 58,  # a guard page is not backed
    ]
    with walker_of(tmp_path, entries) as walker:
        found = walker.walk(swap_slots=True)
    assert found and found.total == len(entries)
    assert (found.private, found.shared, found.zero) == (2, 3, 2)
    assert (found.out, found.not_backed, found.swap_slots) == (3, 2, 2)
    assert found.shared_frames == {13, 14}
    assert (found.frames_differ, found.frames_moving) == (None, None)


ENTRY = st.one_of(
    st.just(0),
    st.builds(lambda frame: PRESENT | EXCLUSIVE | frame, st.integers(1, 1 << 40)),
    st.builds(lambda frame: PRESENT | frame, st.sampled_from([1, 2, 3, ZERO, 1 << 40])),
    st.builds(lambda slot: SWAPPED | slot, st.integers(1, 1 << 45)),
)


@given(entries=st.lists(ENTRY, min_size=1, max_size=1600), first=st.integers(0, 700))
def test_the_fast_way_counts_as_the_plain_way(
    tmp_path_factory: pytest.TempPathFactory, entries: list[int], first: int
) -> None:
    with walker_of(tmp_path_factory.mktemp("proc"), entries, first=first) as walker:
        found = walker.walk(swap_slots=True)
        again = walker.walk(swap_slots=True)
    numbers = [entry & ((1 << 55) - 1) for entry in entries if entry & PRESENT]
    shared = {
        entry & ((1 << 55) - 1)
        for entry in entries
        if entry & PRESENT and not entry & EXCLUSIVE and entry & ((1 << 55) - 1) != ZERO
    }
    assert found == again and found
    assert found.private == sum(bool(entry & EXCLUSIVE) for entry in entries)
    assert found.private + found.shared + found.zero == len(numbers)
    assert found.out == sum(bool(entry & SWAPPED) for entry in entries)
    assert found.swap_slots == len({entry for entry in entries if entry & SWAPPED})
    assert found.shared_frames == shared
    assert found.not_backed == entries.count(0)
    assert found.total == len(entries)


def test_a_changed_piece_is_counted_anew_and_only_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [PRESENT | EXCLUSIVE | 1] * 2000
    counted: list[int] = []
    count = PageWalker._count

    def spy(self: PageWalker, data: bytes) -> pagemap._Piece:
        counted.append(len(data) // 8)
        return count(self, data)

    monkeypatch.setattr(PageWalker, "_count", spy)
    with walker_of(tmp_path, entries, first=0) as walker:
        walker.walk()
        assert counted == [512, 512, 512, 464]
        entries[600] = SWAPPED | 1
        (tmp_path / "9/pagemap").write_bytes(array("Q", entries).tobytes())
        found = walker.walk()
        assert counted[4:] == [512]
        assert found and (found.private, found.out) == (1999, 1)


def test_the_guests_list_moving_meanwhile(tmp_path: Path) -> None:
    backed = PRESENT | EXCLUSIVE | 1
    data = struct.pack("=6Q", backed, backed, 0, 0, backed, backed)
    before, after = bytes([1, 0, 1, 0, 1, 0]), bytes([1, 0, 0, 0, 0, 1])
    # page 1 differs for sure; 2, 4 and 5 moved: each agrees with the list at one moment
    assert pagemap._compare(data, before, after) == (1, 3)
    assert pagemap._compare(data, bytes([1, 1, 0, 0, 1, 1]), bytes([1, 1, 0, 0, 1, 1])) == (0, 0)


def test_a_frame_list_of_the_whole_mapping(tmp_path: Path) -> None:
    entries = [PRESENT | EXCLUSIVE | 1] * 700 + [0] * 800
    with walker_of(tmp_path, entries) as walker:
        frames = memoryview(bytearray([1] * 700 + [0] * 800))
        found = walker.walk(frames)
        assert found and (found.frames_differ, found.frames_moving) == (0, 0)
        frames[0] = frames[699] = 0
        frames[1499] = 1
        found = walker.walk(frames)
        assert found and found.frames_differ == 3


def test_frames_that_several_vms_share_are_counted_once() -> None:
    one = PageClasses(0, 3, 0, 0, 0, frames=((1, 2), (2,)))
    other = PageClasses(0, 2, 0, 0, 0, frames=((2, 3),))
    assert unique_frames([one, other]) == 3
    assert unique_frames([]) == 0


def test_an_ended_process_gives_no_bytes(tmp_path: Path) -> None:
    with walker_of(tmp_path, [0] * 600) as walker:
        (tmp_path / "9/pagemap").write_bytes(b"")
        assert walker.walk() is None
        assert walker.count(Category.PRESENT) is None, "and by the way round the missing ioctl"


def test_without_the_ioctl_a_walk_counts(tmp_path: Path) -> None:
    entries = [PRESENT | ZERO, PRESENT | EXCLUSIVE | 4, SWAPPED | 3, SWAPPED | 4, 0]
    with walker_of(tmp_path, entries) as walker:
        assert walker.runs(Category.PRESENT) is None
        assert walker.count(Category.SWAPPED) == 2
        assert walker.count(Category.PFNZERO) == 1
        assert walker.count(Category.PRESENT | Category.SWAPPED | Category.PFNZERO) == 4


@pytest.mark.parametrize(("start", "length"), [(1, PAGE), (PAGE, 100), (PAGE, 0)])
def test_only_whole_pages(start: int, length: int) -> None:
    with pytest.raises(ValueError, match="whole pages"):
        PageWalker(1, start, length)
