"""Live progress redraws on a terminal, writes lines elsewhere, and bounds its own cost."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from memlab.live.progress import LINE, REDRAW, Progress
from memlab.live.screen import fitting, plain_line, screen
from memlab.record.columns import Entity
from tests.unit.fake_run import FakeRun, squeeze


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def drawn(run: FakeRun, *, width: int = 130, rows: int = 40) -> str:
    stream = io.StringIO()
    view = screen(run, 32.0, "measured", "soft", width=width, rows=rows)
    Console(file=stream, width=width).print(view)
    return stream.getvalue()


def test_a_row_has_all_layers_of_its_vm() -> None:
    row = next(line for line in drawn(squeeze()).splitlines() if line.startswith("web-1"))
    numbers = row.split()[1:11]
    assert numbers == ["192", "112", "10", "30", "40", "38", "26", "16", "22", "90"]


def test_the_lab_lines_have_budget_savings_and_cost() -> None:
    text = drawn(squeeze())
    assert "of 384.0 MiB" in text
    assert "sharing 142.0" in text
    assert "ksmd" in text
    assert "policy: soft" in text


@pytest.mark.parametrize("width", [60, 80, 100, 130, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    text = drawn(squeeze(), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    row = next(line for line in text.splitlines() if line.startswith("web-1"))
    assert "…" not in row
    assert "409.0 µs" in row


def test_a_wide_terminal_shows_every_column_and_a_narrow_one_keeps_the_tellers() -> None:
    assert len(fitting(200)) == 10
    assert {"used", "ballooned", "private", "out"} <= {column.name for column in fitting(40)}


def test_more_vms_than_lines_are_counted() -> None:
    assert "… and 7 more VMs" in drawn(squeeze(12), rows=5)


def test_absent_is_a_dash_and_not_zero() -> None:
    run = squeeze()
    del run.waves[Entity.VM, "out", "web-1"]
    row = next(line for line in drawn(run).splitlines() if line.startswith("web-1"))
    assert row.split()[9] == "–"
    assert "used – of – MiB" in plain_line(FakeRun(), 1.0, "start", "")


def test_plain_lines_come_every_few_seconds_without_any_control() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(False, stream, now=clock) as progress:
        assert progress.update(squeeze(), 1.0, "grow")
        clock.time += LINE - 0.1
        assert not progress.update(squeeze(), 5.9, "grow")
        clock.time += 0.2
        assert progress.update(squeeze(), 6.1, "squeeze", state="hard")
        progress.note("[red] web-2 was started")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "6.1 s  squeeze: used" in lines[1]
    assert lines[1].endswith("policy hard")
    assert lines[2] == "[red] web-2 was started"
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_is_redrawn_at_most_twice_a_second() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(True, stream, now=clock) as progress:
        assert progress.update(squeeze(), 1.0, "grow")
        clock.time += REDRAW * 0.9
        assert not progress.update(squeeze(), 1.4, "grow")
        clock.time += 30.0
        assert progress.update(squeeze(), 31.4, "grow")
        progress.note("web-2 was started")
    text = stream.getvalue()
    assert "\x1b[?25l" in text, "the cursor is hidden while it redraws"
    assert text.rstrip().endswith("\x1b[?25h"), "and given back"
    assert "web-2 was started" in text


def test_closing_twice_is_harmless() -> None:
    progress = Progress(True, io.StringIO())
    progress.close()
    progress.close()
