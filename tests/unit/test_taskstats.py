"""Delays decoded from a captured struct taskstats, and the framing of netlink."""

from __future__ import annotations

import struct

import pytest

from memlab.kernel import taskstats
from memlab.kernel.taskstats import Delay, Delays, decode
from tests.captured import HYBRID, TASKSTATS_16


def test_version_16() -> None:
    assert decode(TASKSTATS_16.read_bytes()) == Delays(
        version=16,
        swapin=Delay(103, 776658),
        freepages=Delay(0, 0),
        thrashing=Delay(0, 0),
        compact=Delay(0, 0),
        wpcopy=Delay(33, 123247),
    )


@pytest.mark.parametrize(
    ("version", "length", "absent"),
    [
        (8, 328, {"thrashing", "compact", "wpcopy"}),
        (10, 352, {"compact", "wpcopy"}),
        (12, 400, {"wpcopy"}),
        (13, 416, set()),
        (15, 560, {"swapin", "freepages", "thrashing", "compact", "wpcopy"}),
        (99, 900, set()),
    ],
)
def test_what_a_version_does_not_have_is_absent(
    version: int, length: int, absent: set[str]
) -> None:
    raw = struct.pack("=H", version) + TASKSTATS_16.read_bytes()[2:].ljust(900, b"\0")
    found = decode(raw[:length])
    names = {"swapin", "freepages", "thrashing", "compact", "wpcopy"}
    assert {name for name in names if getattr(found, name) is None} == absent


def test_attributes_are_padded_and_read_back() -> None:
    raw = taskstats._attribute(1, b"abc") + taskstats._attribute(0x8002, b"\x05\0\0\0")
    assert len(raw) == 16
    assert taskstats._attributes(raw) == {1: b"abc", 2: b"\x05\0\0\0"}
    assert taskstats._attributes(b"\0\0\0\0rubbish") == {}


def test_the_switch_without_delay_accounting() -> None:
    assert taskstats.delayacct(HYBRID) is None
