"""`memlab compare` on the real kernel: interrupted, gone on with, asked of its recordings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memlab.record.store import Recording
from tests.hoststate import assert_same, snapshot
from tests.pace import slowness

pytestmark = pytest.mark.kernel

LAB = """
name: pair
host: {memory: 96MiB, swap: {size: 256MiB}}
mechanisms: {tps: {pages_to_scan: 3000}, compression: {pool: 12%}}
policy: {name: none, period: 500ms}
defaults: {memory: 64MiB, image: {size: 12MiB, common: 70%, zero: 20%}}
vms:
  a:
    count: 2
    workload:
      name: keyvalue
      size: 44MiB
      content: {common: 80%, compressible: 3}
      args: {zipf: 0.5, writes: 0%}
sample: {fast: 200ms, medium: 500ms, deep: 1s}
duration: 7s
window: {from: 3s, until: 7s}
"""


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    words = ["compare", "pair.memlab.yaml", "--policy", "none,ladder", "-f", "json", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "memlab", *words], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "MEMLAB_DIR": ""},
    )  # fmt: skip


def wait_for(path: Path, pattern: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds * slowness()
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} came"
        time.sleep(0.1)


def json_of(run: Path) -> dict[str, object]:
    with Recording.open(run / "recording.sqlite", check=False) as recording:
        return recording.manifest


def test_a_comparison_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / "pair.memlab.yaml").write_text(LAB)
    before = snapshot()
    first = start(tmp_path, "-o", "out")
    wait_for(tmp_path, "out/*/none-1/runs/*/recording.sqlite", 60)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60 * slowness())
    assert first.returncode == 130, said
    assert_same(before, snapshot())
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/reference-1/runs/*/*")}
    assert kept

    second = start(tmp_path, "-o", "out")
    out, said = second.communicate(timeout=120 * slowness())
    assert second.returncode == 0, said
    assert "1 of 3 runs are there already" in said
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "it was not run again"
    assert_same(before, snapshot())

    found = json.loads(out)
    none, ladder = found["rows"]
    assert (none["policy"], none["acted"]) == ("none", False)
    assert (ladder["policy"], ladder["acted"]) == ("ladder", True)
    assert set(found["reference"]) == {"a-1", "a-2"}
    # 80 % of what both read is equal: who shares has room for nearly all of it.
    assert ladder["work"]["median"] > 1.1 * none["work"]["median"]
    (page,) = tmp_path.glob("out/*/compare.html")
    assert "ladder" in page.read_text("utf-8")

    made = [path for name in ("ladder", "none") for path in tmp_path.glob(f"out/*/{name}-1/runs/*")]
    runs = [str(path) for path in made if json_of(path)["ended"] == "finished"]
    again = subprocess.run(
        [sys.executable, "-m", "memlab", "compare", *runs, "-f", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ladder_first = json.loads(again.stdout)
    assert [row["policy"] for row in ladder_first["rows"]] == ["ladder", "none"]
    assert ladder_first["rows"][0]["work"]["median"] == 1.0
