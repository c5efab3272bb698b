"""What a running lab does when something is set or decided, and what it is set to now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from memlab.control.actuate import Actuator, Done
from memlab.control.guestmemory import PATIENCE, Swept
from memlab.control.policy import Action, Balloon, Mechanism, Reclaim, Share
from memlab.control.view import Frame
from memlab.errors import MemlabError, UsageError, VmError
from memlab.kernel.files import HOST, Roots, read_int
from memlab.lab import controls
from memlab.lab.fleet import VERIFY_SECONDS, Fleet
from memlab.lab.keeper import Keeper
from memlab.lab.manifest import mechanisms_of
from memlab.lab.settable import Setting, SettingKind
from memlab.lab.spec import Lab, WorkloadSpec
from memlab.lab.stage import Stage
from memlab.lab.values import Amount
from memlab.units import format_size, parse_size
from memlab.vm.base import Backend, GuestLink, Vm, WorkloadConfig
from memlab.vm.process import workload_fields

EXEC_SECONDS: Final = 20.0
"""A program run in a VM has so long: the lab's loop waits for it."""

GUEST_SECONDS: Final = 5.0
MIGRATE_SECONDS: Final = 60.0


@dataclass(slots=True)
class Claim:
    """What a VM may have, as it stands now: `set` changes it."""

    name: str
    memory: int
    shares: int
    reservation: int
    limit: int | None


class Hands:
    """Carries out settings and a policy's actions, and knows the state that they left."""

    def __init__(
        self,
        lab: Lab,
        stage: Stage,
        fleet: Fleet,
        keeper: Keeper,
        *,
        time_scale: float = 1.0,
        roots: Roots = HOST,
    ) -> None:
        self.lab = lab
        self.budget = lab.host.memory
        self.sharing_on = stage.plan.sharing_from_start
        self.mechanisms = {name for name, on in mechanisms_of(lab).items() if on}
        self.claims = {
            vm.name: Claim(vm.name, vm.memory, vm.shares, vm.reservation, vm.limit)
            for vm in lab.vms
        }
        self._stage = stage
        self._fleet = fleet
        self._keeper = keeper
        self._roots = roots
        self._actuator = Actuator(
            stage.turn,
            fleet.machines,
            fleet.groups,
            keeper,
            compression=Mechanism.COMPRESSION in self.mechanisms,
            patience=PATIENCE * time_scale,
            roots=roots,
        )

    def frame(self) -> Frame:
        """The part of a policy's view that does not come from samples."""
        return Frame(
            budget=self.budget,
            pool_cap=self.lab.pool if Mechanism.COMPRESSION in self.mechanisms else 0,
            swap_size=self._stage.plan.swap_size,
            sharing_on=self.sharing_on,
            pages_to_scan=read_int(self._roots.ksm / "pages_to_scan"),
            blocked=frozenset(self._actuator.blocked),
            mechanisms=frozenset(self.mechanisms),
        )

    def act(self, action: Action) -> Done:
        """Carry out an action of the policy or of a setting."""
        if isinstance(action, Share):
            self.sharing_on = action.on
        return self._actuator.carry_out(action)

    def press(self, vm: str, size: int, into: Mechanism) -> Swept | None:
        """Push a step of a VM out, as the estimate by pressing does."""
        return self._actuator.press(vm, size, into)

    def release(self) -> None:
        """Undo what would keep a VM from answering: the end of a run asks all of them."""
        self._actuator.release()

    def apply(self, setting: Setting) -> list[str]:
        """Carry out a setting; one line for each thing done, what was asked and what was got."""
        if setting.kind is SettingKind.CGROUP:
            return [
                f"{name}: {self._control(self._machine(name), setting)}" for name in setting.vms
            ]
        if setting.kind in _OF_A_VM:
            return [
                f"{name}: {_OF_A_VM[setting.kind](self, self._machine(name), setting.value)}"
                for name in setting.vms
            ]
        return [_OF_THE_HOST[setting.kind](self, setting.value)]

    def _machine(self, name: str) -> Vm:
        machine = self._fleet.machines.get(name)
        if machine is None or machine.ended():
            raise MemlabError(f"VM {name} does not run", hint="memlab status shows those that do")
        return machine

    def _guest(self, machine: Vm) -> GuestLink:
        if machine.link is None:
            raise UsageError(f"VM {machine.config.name} has no agent that could be asked")
        return machine.link

    def _balloon(self, machine: Vm, value: Amount) -> str:
        if Mechanism.BALLOON not in self.mechanisms:
            return "left alone: ballooning is switched off in the lab file"
        config = machine.config
        most = int(config.memory * self.lab.mechanisms.balloon.maximum)
        asked = value.of(config.memory)
        done = self.act(Balloon(config.name, min(asked, most), "set"))
        cut = f" (its limit; {format_size(asked)} asked)" if asked > most else ""
        return f"{done.asked}{cut}: {done.got}"

    def _workload(self, machine: Vm, value: WorkloadSpec) -> str:
        guest, content = self._guest(machine), machine.config.workload.content
        same = 0 if value.command else machine.config.workload.size
        fresh = WorkloadConfig(
            str(value.name),
            value.size or same,
            value.content.content if value.content else content,
            value.arguments,
            value.command or (),
        )
        fields = workload_fields(replace(machine.config, workload=fresh))
        guest.call("workload", timeout=GUEST_SECONDS, **fields)
        if fresh.command:
            return f"workload {' '.join(fresh.command)}"
        return f"workload {fresh.name}, {format_size(fresh.size)}"

    def _free(self, machine: Vm, value: Amount) -> str:
        size = value.of(machine.config.memory)
        answer = self._guest(machine).call("free", timeout=GUEST_SECONDS, size=size)
        return f"freed {format_size(answer['freed'])} of {format_size(size)}"

    def _reclaim(self, machine: Vm, value: Amount) -> str:
        config = machine.config
        into = Mechanism.COMPRESSION if Mechanism.COMPRESSION in self.mechanisms else Mechanism.SWAP
        done = self.act(Reclaim(config.name, value.of(config.memory), into, "set"))
        return f"{done.asked}: {done.got} in {done.seconds:.2f} s"

    def _limit(self, machine: Vm, value: Amount) -> str:
        name, size = machine.config.name, value.of(machine.config.memory)
        written = self._fleet.groups[name].set_limit(size)
        self.claims[name].limit = written.got
        got = "none" if written.got is None else format_size(written.got)
        refused = f" ({written.refused})" if written.refused else ""
        return f"limit {format_size(size)}: {got} in {written.seconds:.2f} s{refused}"

    def _reservation(self, machine: Vm, value: Amount) -> str:
        name, size = machine.config.name, value.of(machine.config.memory)
        self.claims[name].reservation = size
        applied = self._fleet.groups[name].set_min(size)
        kernel = "kept by the policies alone (cgroup v1)" if applied is None else "memory.min"
        return f"reservation {format_size(size)}, {kernel}"

    def _control(self, machine: Vm, setting: Setting) -> str:
        value, vm = setting.value, machine.config.name
        assert isinstance(value, Amount | bool)
        group, memory = self._fleet.groups[vm], machine.config.memory
        return controls.turn(group, setting.key, value, vm=vm, memory=memory)

    def _shares(self, machine: Vm, value: int) -> str:
        self.claims[machine.config.name].shares = value
        return f"{value} shares"

    def _share(self, value: bool) -> str:
        if Mechanism.SHARING not in self.mechanisms:
            return "left alone: page sharing is switched off in the lab file"
        return self.act(Share(on=value, reason="set")).got

    def _pages(self, value: int) -> str:
        return (
            f"pages_to_scan {self._stage.turn(self._roots.ksm / 'pages_to_scan', str(value)).got}"
        )

    def _sleep(self, value: float) -> str:
        path = self._roots.ksm / "sleep_millisecs"
        return f"sleep_millisecs {self._stage.turn(path, str(round(value * 1000))).got}"

    def _compress(self, value: bool) -> str:
        if Mechanism.COMPRESSION not in self.mechanisms:
            return "left alone: compression is switched off in the lab file"
        if not self._keeper.allow(value):
            self._stage.turn(self._roots.zswap / "enabled", "Y" if value else "N")
        return f"the pool takes {'new' if value else 'no new'} pages; what is stored stays"

    def _set_budget(self, value: int) -> str:
        got = self._stage.set_budget(value)
        self.budget = value
        return f"budget {format_size(value)}: {got}"

    def migrate(self, name: str) -> dict[str, Any]:
        """Move a VM to a second process on this host; what that took."""
        return asdict(self._machine(name).migrate(timeout=MIGRATE_SECONDS))

    def run_in(self, name: str, words: Sequence[str]) -> Mapping[str, Any]:
        """Run a command inside a VM: the guest's own, or a program in a `command:` VM's cgroup."""
        machine = self._machine(name)
        if machine.link is not None:
            answer = self._ask_guest(machine, words)
            return {"answer": {k: v for k, v in answer.items() if k not in ("id", "ok")}}
        if machine.config.backend is Backend.QEMU:
            raise VmError(name, "it has no agent, so nothing can be asked of it")
        output, status = self._fleet.run_beside(name, words, timeout=EXEC_SECONDS)
        return {"output": output, "status": status}

    def _ask_guest(self, machine: Vm, words: Sequence[str]) -> dict[str, Any]:
        match words:
            case ["stats" | "verify" as cmd]:
                return self._guest(machine).call(cmd, timeout=VERIFY_SECONDS)
            case ["free", size]:
                freed = parse_size(size)
                return self._guest(machine).call("free", timeout=EXEC_SECONDS, size=freed)
            case ["ping", who]:
                seat = self.lab.seats.get(who)
                address = seat.address if seat else who
                return self._guest(machine).call("ping", timeout=EXEC_SECONDS, address=address)
            case ["balloon", size]:
                return {"balloon": self._balloon(machine, Amount(size=parse_size(size)))}
        raise UsageError(
            f"the agent has no command {' '.join(words)!r}",
            hint="it has: stats, verify, free SIZE, balloon SIZE, ping VM",
        )


_OF_A_VM: Final[Mapping[SettingKind, Callable[[Hands, Vm, Any], str]]] = {
    SettingKind.BALLOON: Hands._balloon,
    SettingKind.WORKLOAD: Hands._workload,
    SettingKind.FREE: Hands._free,
    SettingKind.RECLAIM: Hands._reclaim,
    SettingKind.LIMIT: Hands._limit,
    SettingKind.RESERVATION: Hands._reservation,
    SettingKind.SHARES: Hands._shares,
}
_OF_THE_HOST: Final[Mapping[SettingKind, Callable[[Hands, Any], str]]] = {
    SettingKind.TPS_ENABLED: Hands._share,
    SettingKind.TPS_PAGES: Hands._pages,
    SettingKind.TPS_SLEEP: Hands._sleep,
    SettingKind.COMPRESSION_ENABLED: Hands._compress,
    SettingKind.BUDGET: Hands._set_budget,
}
