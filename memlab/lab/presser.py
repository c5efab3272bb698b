"""The estimate of active memory by pressing: each VM is squeezed a little, and watched.

The law is `control.pressing`. It acts, so it is asked for (`active: {pressure: on}`), stands beside
the policy and not in the sampler, and its price is recorded: the CPU time of pushing out, and what
came back. It looks from outside only, at the VM's process and its pressure file; what the guest and
its workload say of themselves is not read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from memlab.control.paces import Every, way_out
from memlab.control.policy import Mechanism, View, VmView
from memlab.control.pressing import Felt, Pace, Press
from memlab.kernel import procs, psi
from memlab.kernel.files import HOST, Roots
from memlab.lab.hands import Hands
from memlab.lab.spec import Lab
from memlab.units import PAGE
from memlab.vm.base import Target, Vm

Tell = Callable[[str, Mapping[str, int | None]], None]
"""Hears of a VM's name and its raw columns of vm_medium."""


class Note(Protocol):
    """Hears once why a VM is not pressed."""

    def __call__(self, vm: str, why: str, /) -> None:
        """`why` in a few words."""


@dataclass(slots=True)
class _Pressed:
    """One VM: where it stood after the last push, and what pressing has come to in all (bytes)."""

    pid: int
    press: Press
    time: float
    expected_out: int
    waited: float | None
    into: Mechanism
    passed: int = 0
    pushed: int = 0
    back: int = 0
    cpu: float = 0.0
    estimate: int | None = None


class Presser:
    """Presses all VMs of a lab once a period."""

    def __init__(
        self,
        lab: Lab,
        hands: Hands,
        machines: Mapping[str, Vm],
        *,
        tell: Tell,
        note: Note,
        roots: Roots = HOST,
    ) -> None:
        pressure = lab.active.pressure
        self._period = pressure.period
        self._pace = Pace(pressure.step, pressure.stall, pressure.back)
        self._hands, self._machines = hands, machines
        self._tell, self._note = tell, note
        self._roots = roots
        self._every = Every()
        self._pressed: dict[str, _Pressed] = {}
        self._noted: set[tuple[str, str]] = set()

    def tick(self, view: Callable[[], View | None], now: float) -> None:
        """Look at every VM and press it on, if the period is over."""
        if not self._every.due(now, self._period) or (seen := view()) is None:
            return
        into = way_out(seen)
        for vm in seen.vms:
            machine = self._machines.get(vm.name)
            if machine is not None and not machine.ended():
                self._look(vm, machine.target, into)

    def _look(self, vm: VmView, target: Target, into: Mechanism | None) -> None:
        if why := _cannot(vm, target, into):
            self._once(vm.name, why)
            self._pressed.pop(vm.name, None)
            return
        assert into is not None
        began = time.thread_time()
        held = procs.held(target.pid, self._roots)
        if held is None or vm.overhead is None:
            return  # it has just ended; or its own memory is not known before the first walk
        was = self._pressed.get(vm.name)
        if was is None or was.pid != target.pid:
            fresh = Press(self._pace, vm.configured)
            stall = self._stall(target)
            was = _Pressed(target.pid, fresh, time.monotonic(), held.out, stall, into)
            self._pressed[vm.name] = was
        else:
            was.into = into
            self._press(vm, target, was, held)
        was.cpu += time.thread_time() - began
        self._say(vm.name, was)

    def _press(self, vm: VmView, target: Target, was: _Pressed, held: procs.Held) -> None:
        """What the period that is over has done; the next push."""
        stall, now = self._stall(target), time.monotonic()
        resident = max(0, held.resident - (vm.overhead or 0))
        waited = None if stall is None or was.waited is None else stall - was.waited
        seen = Felt(now - was.time, waited, max(0, was.expected_out - held.out))
        was.back += seen.back
        if was.passed >= vm.configured:  # before it has gone round, the never used is still there
            was.estimate = resident
        step = was.press.step(seen, room=resident - vm.reservation)
        swept = self._hands.press(vm.name, step, was.into) if step else None
        was.time, was.waited, was.expected_out = now, stall, held.out
        if swept is not None:
            was.passed += swept.passed
            was.pushed += swept.pushed
            was.expected_out += swept.pushed

    def _stall(self, target: Target) -> float | None:
        """Seconds in which a task of the VM has waited for memory so far; None without PSI."""
        if target.unified_group is None:
            return None
        found = psi.read(target.unified_group / "memory.pressure")
        total = None if found is None else found.some_total_us
        if total is None:
            self._once(target.name, "no pressure of the VM is known here: by what came back alone")
        return None if total is None else total / 1e6

    def _say(self, name: str, was: _Pressed) -> None:
        self._tell(
            name,
            {
                "pressure_pages": None if was.estimate is None else was.estimate // PAGE,
                "pressure_pushed_pages": was.pushed // PAGE,
                "pressure_back_pages": was.back // PAGE,
                "pressure_cpu_us": round(was.cpu * 1e6),
            },
        )

    def _once(self, name: str, why: str) -> None:
        if (name, why) not in self._noted:
            self._noted.add((name, why))
            self._note(name, why)


def _cannot(vm: VmView, target: Target, into: Mechanism | None) -> str:
    """Why this VM cannot be pressed now; empty if it can."""
    if target.ram_start is None:
        return "not pressed: it is a program, without guest memory"
    if vm.blocked:
        return "not pressed: it is blocked, so that nothing would come back"
    return "" if into else "not pressed: neither pool nor device takes pages"
