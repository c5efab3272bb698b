"""smaps and smaps_rollup of a captured process."""

from __future__ import annotations

import itertools

from memlab.kernel import smaps
from tests.captured import HYBRID, PID

PAGE = 4096


def test_the_parts_of_a_mapping() -> None:
    found = smaps.read(PID, HYBRID)
    assert found
    merged = [part for part in found if part.ksm]
    assert [part.ksm for part in merged] == [1000 * PAGE]
    assert merged[0].pss == 500 * PAGE, "each frame has two sharers"
    assert sum(part.swap or 0 for part in found) > 1800 * PAGE
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))


def test_the_mapping_at_an_address() -> None:
    found = smaps.read(PID, HYBRID)
    assert found
    heap = next(part for part in found if part.name == "[heap]")
    assert smaps.mapping_at(PID, heap.end - 1, HYBRID) == heap
    assert smaps.mapping_at(PID, heap.end, HYBRID) != heap
    assert smaps.mapping_at(PID, 0, HYBRID) is None


def test_the_rollup() -> None:
    found = smaps.read_rollup(PID, HYBRID)
    assert found and found.name == "[rollup]"
    assert found.ksm == 1000 * PAGE and found.rss and found.pss and found.pss < found.rss


def test_an_ended_process_and_an_older_kernel() -> None:
    assert smaps.read(1, HYBRID) is None and smaps.read_rollup(1, HYBRID) is None
    old = b"7f00-8f00 rw-p 00000000 00:00 0 \nRss:   4 kB\nVmFlags: rd wr\n"
    assert smaps.parse(old) == [smaps.Mapping(0x7F00, 0x8F00, rss=4096)]
