"""The table in the terminal has the figures of the verdict, and steers no terminal."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from rich.console import Console

from memlab.record.columns import Entity
from memlab.report.figures import figures
from memlab.report.table import summary
from tests.unit.fake_run import FakeRun, squeeze, steady


def printed(run: FakeRun, baseline: FakeRun | None = None, width: int = 120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(summary(run, baseline))
    return stream.getvalue()


def test_saved_and_cost_stand_beside_each_other() -> None:
    lines = printed(squeeze()).splitlines()
    row = next(line for line in lines if "Compression" in line)
    assert "30.5" in row
    assert "pages decompressed 850 /s" in row
    assert any("Machine memory used" in line and "223.9" in line for line in lines)


def test_expectations_host_and_verdict_are_told() -> None:
    text = printed(squeeze())
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("failed   swap holds"))
    assert "39.6 MiB" in lines[at]
    assert lines[at + 1].strip() == "the swap device holds at least 64 MiB"
    assert "Host restored: yes, 2 changes given back" in text
    assert "Verdict: failed" in text


def test_what_could_not_be_restored_is_named() -> None:
    run = squeeze()
    told = {"ok": False, "failed": ["swap device /dev/zram0"], "left": ["ksm/run"]}
    text = printed(replace(run, manifest={**run.manifest, "restored": told}))
    assert "not restored: swap device /dev/zram0" in text
    assert "left as somebody else set it: ksm/run" in text


def test_a_baseline_is_held_beside() -> None:
    calm = squeeze()
    calm.put(Entity.LAB, operations=steady(200_000.0))
    assert "54 % below 200\u202f000 /s of the run quickstart" in printed(squeeze(), calm)
    assert "--baseline RUN" in printed(squeeze())


def test_absent_is_said_with_its_reason() -> None:
    run = squeeze()
    del run.waves[Entity.LAB, "saved_compression", ""]
    row = next(line for line in printed(run, width=200).splitlines() if "Compression" in line)
    assert "not measured" in row
    assert " 0.0" not in row


def test_a_run_that_died_early_says_so_once() -> None:
    text = printed(replace(squeeze(), length=10.0))
    assert text.count("No sample lies in the measured window") == 1
    assert "Σ configured" not in text


def test_recorded_text_is_neither_markup_nor_control() -> None:
    run = squeeze()
    manifest = {**run.manifest, "verdict": {"outcome": "failed", "reasons": ["[red]\x1b[2J"]}}
    text = printed(replace(run, manifest=manifest))
    assert "[red]" in text
    assert "\x1b" not in text


def test_figures_for_programs_are_json_without_absent_keys() -> None:
    run = squeeze()
    del run.waves[Entity.LAB, "saved_swap", ""]
    found = json.loads(json.dumps(figures(run), allow_nan=False))
    assert found["schema_version"] == 1
    assert found["mechanisms"]["sharing"]["saved"]["value"] == 142 * 1024 * 1024
    assert "value" not in found["mechanisms"]["swap"]["saved"]
    assert found["mechanisms"]["swap"]["saved"]["why"]
    assert "baseline" not in found
