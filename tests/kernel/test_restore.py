"""The host is given back, on the real kernel, whoever died when."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from memlab.kernel.entries import Header, SwapKind
from memlab.kernel.files import HOST, chosen, read_int, read_text
from memlab.kernel.journal import Journal
from memlab.kernel.owner import acquire, last_restored, recover
from memlab.kernel.restore import restore
from memlab.kernel.restored import Restored
from memlab.kernel.rundir import RunDir
from memlab.kernel.swap import areas, make_zram, swapon
from memlab.units import MIB
from tests.hoststate import assert_same, snapshot
from tests.kernel.lab_in_miniature import KNOBS
from tests.kernel.lacking import lacking
from tests.kernel.miniature import Miniature, ended, line, tell

pytestmark = pytest.mark.kernel

JOURNAL_ENTRIES = 12
"""What the lab in miniature writes, header included: a later point would never fire."""


@pytest.fixture
def lab(tmp_path: Path) -> Miniature:
    return Miniature(tmp_path)


def test_main_gives_all_back(lab: Miniature) -> None:
    with lab.started() as main:
        line(main)
        assert line(main) == "ready"
        for path, value in KNOBS:
            assert chosen(read_text(path) or "") == value
        assert any(area.path == lab.lab / "swap" for area in areas())
        assert (read_int(HOST.ksm / "pages_shared") or 0) > 0
        tell(main)
        assert line(main) == "done"
    lab.wait_given_back(1.0)
    assert lab.journal_is_gone()


def test_the_guard_gives_all_back_when_main_is_killed(lab: Miniature) -> None:
    with lab.started() as main:
        line(main)
        assert line(main) == "ready"
        main.kill()
        seconds = lab.wait_given_back(10.0)
    assert seconds < 10
    assert Restored.from_json((lab.lab / "results/restored.json").read_text()).ok
    assert last_restored(lab.run) is None


def test_the_next_command_gives_all_back_when_both_are_killed(lab: Miniature) -> None:
    with lab.started() as main:
        guard = int(line(main))
        assert line(main) == "ready"
        os.kill(guard, signal.SIGKILL)
        main.kill()
    restored = recover(lab.run)
    assert restored is not None
    assert restored.ok, restored.failed
    lab.wait_given_back(1.0)


POINTS = [
    *(f"journal-before-fsync:{number}" for number in range(1, JOURNAL_ENTRIES + 1)),
    *(f"journal-after-fsync:{number}" for number in range(1, JOURNAL_ENTRIES + 1)),
    *(f"knob-before-write:{number}" for number in range(1, len(KNOBS) + 1)),
    *(f"knob-after-write:{number}" for number in range(1, len(KNOBS) + 1)),
]


@pytest.mark.parametrize("point", POINTS)
def test_main_killed_at_a_fail_point(lab: Miniature, point: str) -> None:
    with lab.started(MEMLAB_FAIL=point) as main:
        while line(main):
            continue
        assert main.wait(10) == -signal.SIGKILL, "the point was never passed"
        lab.wait_given_back(10.0)


@pytest.mark.parametrize(
    "point",
    # Its first file says who owns the host, its second what came of the clean-up.
    [*(f"restore-step:{step}" for step in (1, 2, 3, 4, 5, 7, 9, 10)), "file-before-rename:2"],
)
def test_both_killed_the_guard_while_it_cleans_up(lab: Miniature, point: str) -> None:
    with lab.started(MEMLAB_FAIL_GUARD=point) as main:
        guard = int(line(main))
        assert line(main) == "ready"
        main.kill()
        _wait_ended(guard)
    restored = recover(lab.run)
    assert restored is not None, "the guard was meant to die before it was done"
    assert restored.ok, restored.failed
    lab.wait_given_back(1.0)


@pytest.mark.parametrize("seed", range(8))
def test_main_killed_at_a_random_instant(lab: Miniature, seed: int) -> None:
    with lab.started() as main:
        time.sleep(random.Random(seed).uniform(0.1, 1.0))
        main.kill()
        lab.wait_given_back(10.0)


def test_interrupting_the_clean_up_twice_does_not_stop_it(lab: Miniature) -> None:
    with lab.started() as main:
        line(main)
        assert line(main) == "ready"
        tell(main)
        for _ in range(2):
            time.sleep(0.02)
            main.send_signal(signal.SIGINT)
        main.wait(10)
        lab.wait_given_back(10.0)


def test_a_zram_device_goes_too(tmp_path: Path) -> None:
    before = snapshot(marks=(str(tmp_path),))
    with acquire(Header.of_this_process("zram", "z1", tmp_path), path=tmp_path / "run") as owner:
        device = make_zram(16 * MIB)
        owner.journal.swap(device, SwapKind.ZRAM)
        swapon(device)
        assert any(area.path == device for area in areas())
    assert owner.restored is not None
    assert owner.restored.ok, owner.restored.failed
    assert_same(before, snapshot(marks=(str(tmp_path),)))


def test_an_advisor_and_the_pace_that_it_sets(tmp_path: Path) -> None:
    """Since 6.8: switching advisors rewrites pages_to_scan behind our back, both ways."""
    before = snapshot(marks=(str(tmp_path),))
    if read_text(HOST.ksm / "advisor_mode") is None:
        lacking("a KSM advisor", "run it on 6.8 or later")
    with acquire(Header.of_this_process("advisor", "a1", tmp_path), path=tmp_path / "run") as owner:
        owner.journal.turn(HOST.ksm / "pages_to_scan", "777")
        owner.journal.turn(HOST.ksm / "advisor_mode", "scan-time")
        assert read_int(HOST.ksm / "pages_to_scan") != 777
    assert owner.restored is not None
    assert owner.restored.ok, owner.restored.failed
    assert_same(before, snapshot(marks=(str(tmp_path),)))


def test_what_a_third_party_changed_is_left(tmp_path: Path) -> None:
    """As `stress-ng --ksm` or ksmtuned would."""
    knob = HOST.ksm / "sleep_millisecs"
    before = read_text(knob) or ""
    try:
        with acquire(Header.of_this_process("third", "t1", tmp_path), path=tmp_path / "r") as owner:
            owner.journal.turn(knob, "33")
            knob.write_text("44")
        assert owner.restored is not None
        assert owner.restored.ok
        assert [left.now for left in owner.restored.left] == ["44"]
        assert read_text(knob) == "44"
    finally:
        knob.write_text(before)


def test_a_refused_value_leaves_nothing_behind(tmp_path: Path) -> None:
    before = snapshot(marks=(str(tmp_path),))
    with RunDir.made(tmp_path / "run") as run:
        journal = Journal.create(run, Header.of_this_process("refused", "r1", tmp_path))
        with pytest.raises(Exception, match="Invalid argument"):
            journal.turn(HOST.ksm / "max_page_sharing", "1")
        assert restore(run).ok
        journal.close()
    assert_same(before, snapshot(marks=(str(tmp_path),)))


def _wait_ended(pid: int) -> None:
    deadline = time.monotonic() + 10
    while not ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
