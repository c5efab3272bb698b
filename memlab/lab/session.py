"""A running lab, from the first journalled change to the host given back.

    plan, admission → owner (journal, guard) → stage (budget, swap, knobs) → recording → keeper,
    observer, VMs → the loop → verify → VMs end → host given back → verdict → recording finished

Everything is undone in reverse by exit stacks, and the host from the journal alone, so that every
way out (the time is up, a signal, a fault, `down`) is the same way.
"""

from __future__ import annotations

import os
import secrets
import select
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, Protocol

from memlab.errors import GuestError, MemlabError
from memlab.kernel.entries import Header
from memlab.kernel.files import HOST, Roots
from memlab.kernel.owner import Owner, acquire
from memlab.lab import manifest, outcome
from memlab.lab.channel import NAME as CONTROL
from memlab.lab.channel import Channel
from memlab.lab.damonwatch import DamonWatch
from memlab.lab.endings import ending_signals, unless_aborted
from memlab.lab.fleet import SILENT_SECONDS, VERIFY_SECONDS, Fleet
from memlab.lab.governor import Governor
from memlab.lab.guests import Guests
from memlab.lab.hands import Hands
from memlab.lab.keeper import Keeper
from memlab.lab.network import make_network
from memlab.lab.outcome import Ended, RunOutcome
from memlab.lab.place import RECORDING, new_run
from memlab.lab.prepare import Prepared
from memlab.lab.presser import Presser
from memlab.lab.stage import Stage, guard_groups
from memlab.lab.strangers import record_strangers
from memlab.record.derive import Derived
from memlab.record.observer import LabTarget, Notice, Observer, Periods, Trouble
from memlab.record.series import Source
from memlab.record.store import Recording
from memlab.vm.base import Vm
from memlab.vm.child import nobody_else

TICK: Final = 0.1
"""The loop looks round at least this often, seconds."""
REDRAW: Final = 0.5


class Watcher(Protocol):
    """Who shows a running lab to a person."""

    def update(self, source: Source, time: float, phase: str, *, state: str = "") -> object:
        """Show the newest values; `state` is the policy's word for where it stands."""

    def note(self, text: str) -> None:
        """Say that something happened."""


class Nobody:
    """The watcher of a run that nobody watches."""

    def update(self, source: Source, time: float, phase: str, *, state: str = "") -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


class Session:
    """One run of one lab. `run` returns when the host has been given back."""

    def __init__(
        self,
        prepared: Prepared,
        watcher: Watcher,
        *,
        baseline: Mapping[str, Any] | None = None,
        roots: Roots = HOST,
    ) -> None:
        """`baseline` is what the cost is held against, as `report.verdict.as_baseline` gives it."""
        self.prepared = prepared
        self.lab = prepared.loaded.lab
        self.run_id = secrets.token_hex(4)
        self.directory = new_run(prepared.directory, prepared.invoker)
        self.path = self.directory / RECORDING
        self.phase = "starting"
        self._watcher = watcher
        self._baseline = baseline
        self._roots = roots
        self._zero = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._stop: str | None = None
        self._ended = Ended.FINISHED
        self._said: deque[str] = deque()
        self._results: dict[str, dict[str, Any]] = {}
        self._next_show = 0.0

    def clock(self) -> float:
        """Seconds since the run began; goes on while the machine sleeps."""
        return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._zero) / 1e9

    def stop(self, why: str) -> None:
        """End the run at the next tick; the host is given back as at its normal end."""
        self._stop = self._stop or why

    def run(self) -> RunOutcome:
        """Perform the lab. After any MemlabError too the host is as before, the recording whole."""
        header = Header.of_this_process(
            self.lab.name, self.run_id, self.prepared.directory, results=self.directory,
            uid=self.prepared.invoker.uid, gid=self.prepared.invoker.gid, roots=self._roots,
        )  # fmt: skip
        identity = nobody_else() if os.geteuid() == 0 else None
        guests = Guests.prepare(self.lab, identity, self._note, folder=self.prepared.loaded.folder)
        owner = acquire(
            header, roots=self._roots, guard_groups=guard_groups(self.run_id, self._roots)
        )
        with ending_signals(self.stop):
            closing: dict[str, Any] = {"ended": "failed"}
            recording: Recording | None = None
            try:
                with owner:
                    host, found = manifest.host_facts(self._roots), manifest.features(self._roots)
                    stage = Stage(
                        self.lab, self.prepared.plan, owner, self.run_id, roots=self._roots
                    )
                    stage.build()
                    self._zero = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                    source = self.prepared.loaded.source
                    opening = manifest.opening(
                        self.lab, source, stage, run_id=self.run_id, host=host, found=found
                    )
                    opening |= guests.facts()
                    opening["time_scale"] = self.prepared.loaded.time_scale
                    opening["notes"] = dict(self.prepared.loaded.notes)
                    if self._baseline is not None:
                        opening["baseline"] = self._baseline
                    recording = Recording.create(self.path, opening)
                    self._live(owner, stage, guests, recording)
                    self._note("the VMs have ended; giving the host back")
                closing = self._judge()
            except MemlabError as error:
                closing["error"] = error.message
                raise
            finally:
                if recording is not None:
                    self._finish(recording, closing, owner)
        return self._outcome(closing, owner)

    def _live(self, owner: Owner, stage: Stage, guests: Guests, recording: Recording) -> None:
        """From the first VM to the last."""
        with ExitStack() as stack:
            keeper = stack.enter_context(
                Keeper(stage.group, stage.gate, roots=self._roots, say=self._said.append)
            )
            observer = self._observer(owner, stage)
            stack.callback(observer.stop)
            fleet = Fleet(
                self.lab, stage, owner.journal, run=self.directory,
                invoker=self.prepared.invoker, guests=guests,
                network=make_network(self.lab, owner, stack), watch=keeper.watch,
            )  # fmt: skip
            stack.callback(fleet.stop)
            derived = stack.enter_context(Derived(Recording.open(self.path, check=False)))

            def sample(name: str) -> None:
                machine = fleet.machines[name]
                observer.add(
                    machine.target, owner=machine.config.owner, backend=machine.config.backend,
                    board_fd=machine.board_fd,
                )  # fmt: skip

            hands = Hands(
                self.lab, stage, fleet, keeper,
                time_scale=self.prepared.loaded.time_scale, roots=self._roots,
            )  # fmt: skip
            governor = Governor(
                self.lab, hands, source=derived, recording=recording, note=self._note,
                verify=lambda: self._check_pages(fleet, recording),
                moved=sample, folder=self.prepared.loaded.folder,
            )  # fmt: skip

            def unable(kind: str, vm: str, why: str) -> None:
                recording.event(self.clock(), kind, vm, {"why": why})
                self._note(f"{vm or kind}: {why}")

            presser = Presser(
                self.lab, hands, fleet.machines,
                tell=observer.tell, note=partial(unable, "active-pressure"), roots=self._roots,
            )  # fmt: skip
            damon = DamonWatch(
                self.lab.active,
                tell=observer.tell, note=partial(unable, "active-damon"), roots=self._roots,
            )  # fmt: skip
            stack.enter_context(damon)
            socket = owner.run.path / CONTROL
            owner.journal.file(socket)
            channel = stack.enter_context(Channel(socket, uid=self.prepared.invoker.uid))

            def started(machine: Vm, number: int) -> None:
                sample(machine.config.name)
                recording.event(self.clock(), "vm-started", machine.config.name, {})
                alone = machine.link is None and machine.board_fd is not None
                without = ", without an agent: it is measured from outside" if alone else ""
                self._note(f"{machine.config.name} runs{without}")

            self.phase = "running"
            with unless_aborted(owner, lambda why: self._abort(why, recording)):
                while not self._is_over(self.clock()):
                    now = self.clock()
                    fleet.start_due(now, started)
                    derived.refresh()
                    self._look_after(fleet, recording, owner, now)
                    governor.tick(now)
                    if self.lab.active.presses:
                        presser.tick(lambda: governor.view(self.clock()), now)
                    damon.tick(fleet.machines, now)
                    self._show(derived, now, governor.state)
                    self._wait(channel, observer, owner, governor, recording)
                if self._ended is not Ended.ABORTED:  # else all of it has gone already
                    self._wind_up(stage, hands, fleet, recording)

    def _wind_up(self, stage: Stage, hands: Hands, fleet: Fleet, recording: Recording) -> None:
        """The last looks, while all VMs are still there."""
        record_strangers(stage, recording, self.clock(), self._note)
        hands.release()
        stage.relax()
        self._verify(fleet, recording)

    def _observer(self, owner: Owner, stage: Stage) -> Observer:
        sample = self.lab.sample
        group = stage.group
        return Observer.start(
            self.path,
            clock_zero=self._zero,
            periods=Periods(
                sample.fast, sample.medium, sample.deep, referenced=self.lab.active.looks
            ),
            lab=LabTarget(
                memory_group=group.path,
                unified_group=group.unified_path,
                swap_device=stage.swap_area,
                budget=self.lab.host.memory,
            ),
            guard_pid=owner.guard.facts.task.pid,
        )

    def _abort(self, reason: str, recording: Recording) -> None:
        recording.event(self.clock(), "aborted", "", {"why": reason})
        self.stop(f"guard: {reason}")
        self._ended = Ended.ABORTED

    def _is_over(self, now: float) -> bool:
        if self._stop is not None:
            if self._ended is not Ended.ABORTED:
                self._ended = Ended.STOPPED
            return True
        return now >= self.lab.duration

    def _look_after(self, fleet: Fleet, recording: Recording, owner: Owner, now: float) -> None:
        """Write down what happened unasked: VMs that ended, what agents and keeper said."""
        for name, why, last in fleet.ended():
            kills = fleet.groups[name].oom_kills()
            kind = "oom-kill" if kills else "vm-ended"
            recording.event(now, kind, name, {"why": why, "last": last})
            self._note(f"{name} {why}" + (", killed for memory" if kills else ""))
        for name, said in fleet.events():
            data = {key: value for key, value in said.items() if key != "event"}
            recording.event(now, str(said["event"]), name, data)
        for name, kind in fleet.silent():
            recording.event(now, kind, name, {"after": SILENT_SECONDS})
            self._note(f"{name}: {kind.replace('-', ' ')}")
        while self._said:
            recording.event(now, self._said.popleft(), "", {})
        if reason := owner.guard.aborted():
            self._abort(reason, recording)
        elif not owner.guard.alive():
            owner.guard = owner.guard.replace(owner.journal)
            recording.event(now, "guard-replaced", "", {})

    def _show(self, derived: Derived, now: float, state: str) -> None:
        if now >= self._next_show:
            self._next_show = now + REDRAW
            self._watcher.update(derived, now, self.phase, state=state)

    def _wait(
        self,
        channel: Channel,
        observer: Observer,
        owner: Owner,
        governor: Governor,
        recording: Recording,
    ) -> None:
        """Sleep until a sample is there, somebody asks, or a tick is over."""
        poll = select.poll()  # not select(): a lab of hundreds of VMs has descriptors above 1,023
        for fd in (*channel.filenos(), observer.fileno(), owner.guard.fileno()):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(TICK * 1000)}
        channel.serve(lambda asked: self._answer(asked, governor))
        if observer.fileno() in ready:
            self._hear(observer.notices(), recording)

    def _answer(self, asked: Mapping[str, Any], governor: Governor) -> Mapping[str, Any]:
        """What `status`, `set`, `exec` and `down` ask of a running lab."""
        match asked:
            case {"verb": "status"}:
                return self._status()
            case {"verb": "set", "settings": dict(settings)}:
                return {"done": governor.set_now(self.clock(), settings)}
            case {"verb": "exec", "vm": str(name), "command": list(words)}:
                return governor.run_in(self.clock(), name, [str(word) for word in words])
            case {"verb": "down"}:
                self.stop("down")
                return {"lab": self.lab.name}
        raise MemlabError(f"a running lab does not know {asked.get('verb')!r}")

    def _status(self) -> dict[str, Any]:
        return {
            "lab": self.lab.name,
            "run": self.run_id,
            "digest": self.prepared.digest,
            "phase": self.phase,
            "time": self.clock(),
            "duration": self.lab.duration,
            "recording": str(self.path),
            "vms": [vm.name for vm in self.lab.vms],
            "addresses": {name: seat.address for name, seat in self.lab.seats.items()},
        }

    def _verify(self, fleet: Fleet, recording: Recording) -> None:
        """After the last measured sample: what the workloads did, and every page checked."""
        self.phase = "verifying"
        recording.event(self.clock(), "phase", "", {"phase": self.phase})
        self._note("checking every application page of every VM")
        # A guest that is silent now (stopped, frozen) must not hold up the end for two minutes.
        answering = []
        for name, answer in fleet.ask_all("stats", timeout=10.0):
            self._results[name] = {"stats": _plain(answer)}
            if not isinstance(answer, GuestError):
                answering.append(name)
        if answering:
            self._check_pages(fleet, recording, only=answering)
        self.phase = "ending"

    def _check_pages(
        self, fleet: Fleet, recording: Recording, only: Iterable[str] | None = None
    ) -> None:
        """Every application page of every VM against what was written there."""
        for name, answer in fleet.ask_all("verify", timeout=VERIFY_SECONDS, only=only):
            found = _plain(answer)
            self._results.setdefault(name, {})["verify"] = found
            recording.event(self.clock(), "verify", name, found)

    def _hear(self, notices: Iterable[Notice | Trouble], recording: Recording) -> None:
        """Of each trouble of the sampler one event; a person sees a gap, never a repeated value."""
        for notice in notices:
            if isinstance(notice, Trouble):
                recording.event(self.clock(), "gap", "", {"why": notice.message})
                self._note(notice.message)

    def _judge(self) -> dict[str, Any]:
        with Derived.open(self.path, check=False) as derived:
            expects = outcome.judge(self.lab, derived)
            bad = sum(int(one.get("verify", {}).get("bad", 0)) for one in self._results.values())
            said, reasons = outcome.verdict(expects, derived, bad_pages=bad)
        return outcome.closing(said, reasons, self._ended, expects, self._results)

    def _finish(self, recording: Recording, closing: Mapping[str, Any], owner: Owner) -> None:
        restored = owner.close()
        recording.event(self.clock(), "restored", "", {"ok": restored.ok})
        recording.finish({**closing, **outcome.restored_facts(restored)})
        if self.directory.is_dir():  # somebody may have thrown it away meanwhile
            self.prepared.invoker.give(*self.directory.iterdir())

    def _outcome(self, closing: Mapping[str, Any], owner: Owner) -> RunOutcome:
        return RunOutcome(
            said=outcome.Said(closing["verdict"]["outcome"]),
            ended=self._ended,
            recording=self.path,
            reasons=tuple(closing["verdict"]["reasons"]),
            expects=tuple(outcome.Judged(**one) for one in closing["expects"]),
            restored=owner.close(),
        )

    def _note(self, text: str) -> None:
        self._watcher.note(f"{self.clock():6.1f} s  {text}")


def _plain(answer: dict[str, Any] | GuestError) -> dict[str, Any]:
    """An answer without its protocol, or the refusal in words."""
    if isinstance(answer, GuestError):
        return {"error": answer.message}
    return {key: value for key, value in answer.items() if key not in ("id", "ok")}
