"""The C header of the agent against memlab/guest/wire.py and memlab/guest/workloads.py."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlab.guest import wire
from memlab.guest.build import SOURCES, agent_path
from memlab.guest.workloads import WORKLOADS, Kind


@pytest.fixture(scope="module")
def layout() -> dict[str, Any]:
    said = subprocess.run([agent_path(), "--layout"], capture_output=True, check=True).stdout
    found: dict[str, Any] = json.loads(said)
    return found


def test_fields_are_the_same_in_the_same_places(layout: dict[str, Any]) -> None:
    expected = [
        [name, wire.COUNTERS_OFFSET + 8 * place] for place, name in enumerate(wire.BOARD_FIELDS)
    ]
    assert layout["fields"] == expected


def test_constants_are_the_same(layout: dict[str, Any]) -> None:
    assert layout["magic"] == wire.BOARD_MAGIC
    assert wire.BOARD_MAGIC.to_bytes(8, "little") == b"mlbboard"
    assert layout["version"] == wire.BOARD_VERSION
    assert layout["histogram"] == wire.HISTOGRAM_OFFSET
    assert layout["buckets"] == wire.HISTOGRAM_BUCKETS
    assert layout["frame_map"] == wire.FRAME_MAP_OFFSET
    assert layout["max_line"] == wire.MAX_LINE


def test_buckets_are_the_same(layout: dict[str, Any]) -> None:
    assert len(layout["bucket_of"]) == 200
    for nanoseconds, bucket, end in layout["bucket_of"]:
        assert bucket == wire.bucket_of(nanoseconds)
        assert end == wire.bucket_bounds(bucket)[1]


@given(st.integers(0, 2**37 - 1))
def test_a_bucket_holds_what_is_counted_in_it(nanoseconds: int) -> None:
    low, end = wire.bucket_bounds(wire.bucket_of(nanoseconds))
    assert low <= nanoseconds < end
    assert end - low <= max(1, low / 8)


def test_workloads_are_the_same_everywhere() -> None:
    in_c = re.search(r"names\[NAMES\] = \{(.*?)\}", (SOURCES / "workload.c").read_text(), re.S)
    assert in_c is not None
    assert re.findall(r'"(\w+)"', in_c[1]) == list(WORKLOADS) == list(wire.Workload)


def test_every_setting_is_read_by_the_agent_and_documented() -> None:
    source = (SOURCES / "workload.c").read_text()
    page = (Path(__file__).parents[2] / "docs/workloads.md").read_text()
    for info in WORKLOADS.values():
        section = page.split(f"### {info.name}\n")[1].split("###")[0]
        assert info.does.lower() in section.lower()
        for arg in info.args:
            assert f"args.{arg.name}" in source
            row = next(line for line in section.splitlines() if line.startswith(f"| `{arg.name}`"))
            assert arg.meaning in row
            assert f"| {arg.kind} |" in row
            if arg.kind is Kind.DURATION:
                assert f"`{arg.default:g}s`" in row


def test_no_source_of_the_agent_is_long() -> None:
    for source in SOURCES.glob("*.[ch]"):
        assert len(source.read_text().splitlines()) <= 330, source
