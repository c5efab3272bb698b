"""Chosen numbers of a file whose lines may move, go or come between two readings."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memlab.kernel.files import parse_pairs
from memlab.kernel.picker import Picker
from tests.captured import HYBRID

NAMES = (b"b", b"d", b"a")


def test_numbers_come_in_the_order_of_the_names() -> None:
    assert Picker(NAMES)(b"a 1\nb 2\nc 3\nd 4\n") == (2, 4, 1)


def test_what_is_not_there_is_absent() -> None:
    pick = Picker(NAMES)
    assert pick(b"a 1\nc 3\n") == (None, None, 1)
    assert pick(b"c 3\n") == (None, None, None)
    assert pick(None) == (None, None, None)
    assert pick(b"") == (None, None, None)


def test_lines_that_move_are_found_again() -> None:
    pick = Picker(NAMES)
    assert pick(b"a 1\nb 2\nd 4\n") == (2, 4, 1)
    assert pick(b"new 9\nd 40\nb 20\na 10\n") == (20, 40, 10)
    assert pick(b"d 41\n") == (None, 41, None)
    assert pick(b"a 1\nb 2\nd 4\n") == (2, 4, 1)


def test_units_and_colons_do_not_disturb() -> None:
    pick = Picker((b"MemFree:", b"HugePages_Total:", b"MemTotal:"))
    raw = b"MemTotal:  100 kB\nMemFree:  60 kB\nHugePages_Total:  3\n"
    assert pick(raw) == pick(raw) == (60, 3, 100)


@given(st.lists(st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), unique=True), max_size=6))
def test_any_sequence_of_files_reads_as_the_map_of_each(files: list[list[bytes]]) -> None:
    """But for a line that takes another's place, which no kernel does while it runs."""
    pick = Picker(NAMES)
    assume(all(len(one) != len(other) for one, other in pairwise(files)))
    for number, names in enumerate(files):
        raw = b"".join(b"%s %d\n" % (name, number * 10 + place) for place, name in enumerate(names))
        pairs = parse_pairs(raw)
        assert pick(raw) == tuple(int(pairs[name]) if name in pairs else None for name in NAMES)


@pytest.mark.parametrize("file", ["vmstat"])
def test_a_captured_file_reads_as_its_map(file: str) -> None:
    raw = (HYBRID.proc / file).read_bytes()
    pairs = parse_pairs(raw)
    names = tuple(sorted(pairs)[::7])
    assert Picker(names)(raw) == tuple(int(pairs[name]) for name in names)
