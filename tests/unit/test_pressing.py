"""The law of the estimate by pressing, on worked numbers, and as a lab file asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.control.pressing import LEAST, Felt, Pace, Press
from memlab.errors import LabFileError
from memlab.kernel.files import Roots
from memlab.kernel.procs import Held, held
from memlab.lab.load import loads
from memlab.lab.stretch import stretch
from memlab.units import MIB

PACE = Pace(step=0.1, stall=0.05, back=0.02)
SIZE = 1000 * MIB
ROOM = 10 * SIZE
QUIET = Felt(1.0, 0.0, 0)

LAB = """
name: t
host: {memory: 300MiB, swap: {size: 64MiB}}
mechanisms: {tps: off, compression: off}
active: {pressure: %s}
vms: {a: {memory: 64MiB, workload: {name: toucher, size: 16MiB}}}
"""


def test_while_nothing_is_felt_the_step_doubles_up_to_the_largest() -> None:
    press = Press(PACE, SIZE)
    steps = [press.step(QUIET, room=ROOM) // MIB for _ in range(9)]
    assert steps == [2, 4, 8, 16, 32, 64, 100, 100, 100]


def test_what_is_felt_is_the_larger_of_waiting_and_coming_back() -> None:
    press = Press(PACE, SIZE)
    assert press.felt(Felt(2.0, 0.2, 0)) == pytest.approx(2.0)  # 10 % of the time, 5 % allowed
    assert press.felt(Felt(2.0, 0.2, 60 * MIB)) == pytest.approx(3.0)  # 6 % back, 2 % allowed
    assert press.felt(Felt(2.0, None, 10 * MIB)) == pytest.approx(0.5)  # no PSI: that alone


def test_in_balance_what_comes_back_is_what_is_allowed() -> None:
    press = Press(PACE, SIZE)
    for part in (1.0, 0.5):  # of what is pushed out so much is used
        pushed = LEAST
        for _ in range(12):
            pushed = press.step(Felt(1.0, 0.0, int(pushed * part)), room=ROOM) or LEAST
        assert pushed * part == pytest.approx(0.02 * SIZE, rel=0.01)


def test_much_too_much_is_a_period_without_a_push_and_a_smaller_step() -> None:
    press = Press(PACE, SIZE)
    for _ in range(8):
        press.step(QUIET, room=ROOM)
    assert press.step(Felt(1.0, 0.0, 100 * MIB), room=ROOM) == 0  # five times the allowed
    assert press.step(QUIET, room=ROOM) == 40 * MIB  # a fifth of 100, doubled


def test_never_below_the_reservation_and_never_less_than_the_least_step() -> None:
    press = Press(PACE, SIZE)
    assert press.step(QUIET, room=MIB // 2) == MIB // 2
    assert press.step(QUIET, room=-MIB) == 0
    for _ in range(5):
        press.step(Felt(1.0, 10.0, 0), room=ROOM)
    assert press.step(Felt(1.0, 0.05, 0), room=ROOM) == LEAST


def test_what_a_process_holds_is_read_from_outside(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/statm").write_text("300 200 10 1 0 250 0\n")
    (tmp_path / "7/status").write_text("Name:\ta\nVmRSS:\t800 kB\nVmSwap:\t1234 kB\n")
    roots = Roots(proc=tmp_path)
    assert held(7, roots) == Held(200 * 4096, 1234 * 1024)
    assert held(8, roots) is None


@pytest.mark.parametrize(
    ("written", "presses", "period"),
    [("on", True, 2.0), ("off", False, 2.0), ("{period: 6s}", True, 6.0)],
)
def test_it_is_asked_for_and_a_map_asks_too(written: str, presses: bool, period: float) -> None:
    active = loads(LAB % written).lab.active
    assert (active.presses, active.pressure.period) == (presses, period)
    assert not loads(LAB.replace("active: {pressure: %s}\n", "")).lab.active.presses


def test_in_slow_motion_its_period_is_longer() -> None:
    slow = stretch(loads(LAB % "on"), 3).lab.active
    assert (slow.period, slow.pressure.period) == (6.0, 6.0)


def test_without_anywhere_to_push_pages_to_it_is_refused() -> None:
    text = LAB.replace(", swap: {size: 64MiB}", "").replace(
        "compression: off", "compression: off, swap: off"
    )
    with pytest.raises(LabFileError) as refused:
        loads(text % "on")
    assert [fault.code for fault in refused.value.faults] == ["ML036"]
