"""What can be set while a lab runs, and how: the one table for the timeline and `memlab set`.

Before the run everything in the lab file can be set, by the same paths (`--set`, and later
`--vary`): `settable()` lists both. NAME is a VM, an entry of `vms`, a group, or `*` for all VMs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from memlab.control.policies import POLICIES, settings_of
from memlab.errors import Fault
from memlab.lab.arguments import ArgumentsError
from memlab.lab.faults import fault_of, nearest
from memlab.lab.model import leaves, type_at
from memlab.lab.spec import Lab, WorkloadSpec
from memlab.lab.values import (
    Amount,
    to_amount,
    to_seconds,
    to_size,
    to_switch,
)
from memlab.lab.yamlfile import Document
from memlab.units import MIB, UnitError


class SettingKind(StrEnum):
    """What a setting acts on."""

    BALLOON = "balloon"
    WORKLOAD = "workload"
    FREE = "free"
    RECLAIM = "reclaim"
    LIMIT = "limit"
    RESERVATION = "reservation"
    SHARES = "shares"
    CGROUP = "cgroup"
    TPS_ENABLED = "tps-enabled"
    TPS_PAGES = "tps-pages-to-scan"
    TPS_SLEEP = "tps-sleep"
    COMPRESSION_ENABLED = "compression-enabled"
    BUDGET = "budget"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Setting:
    """One change of a running lab, read and checked.

    `value` is an Amount for balloon, free, reclaim, limit, reservation and the sizes of `cgroup` (a
    percentage is of the VM's memory: `value.of(vm.memory)`), a WorkloadSpec for workload, bool for
    enabled, bytes for budget, pages, shares or a fraction else. `key` is the policy's setting, or
    the name of the `cgroup` control.
    """

    path: str
    kind: SettingKind
    value: Amount | WorkloadSpec | bool | int | float | str
    vms: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a path, how its value is written, whether it can be set live."""

    path: str
    written: str
    live: bool
    meaning: str


class SettingError(ValueError):
    """A setting that cannot be meant; `faults` says why."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = faults


def _count(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise PydanticCustomError(
                "range",
                "{message}",
                {
                    "message": f"{str(value)[:40]!r} is not a whole number of {low:,} to {high:,}",
                    "fix": f"write {low:,} to {high:,}",
                },
            )
        return value

    return read


@dataclass(frozen=True, slots=True)
class _Live:
    kind: SettingKind
    written: str
    read: Callable[[Any], Any]
    meaning: str


_K = SettingKind
_SIZE: Final = "size or percent"
_VM: Final = {
    "balloon": _Live(_K.BALLOON, _SIZE, to_amount, "what the balloon is asked to hold"),
    "workload": _Live(
        _K.WORKLOAD, "name or map", WorkloadSpec.model_validate, "end the application, start this"
    ),
    "free": _Live(_K.FREE, _SIZE, to_amount, "the application frees that much"),
    "reclaim": _Live(
        _K.RECLAIM, _SIZE, to_amount, "pushed out of its frames, piece after piece of its memory"
    ),
    "limit": _Live(_K.LIMIT, _SIZE, to_amount, "machine memory at most"),
    "reservation": _Live(_K.RESERVATION, _SIZE, to_amount, "machine memory that policies leave"),
    "shares": _Live(_K.SHARES, "number", _count(1, 1_000_000), "weight when memory is short"),
    "cgroup.high": _Live(_K.CGROUP, _SIZE, to_amount, "memory.high: above it the VM is slowed"),
    "cgroup.swap_max": _Live(_K.CGROUP, _SIZE, to_amount, "memory.swap.max: swap at most"),
    "cgroup.zswap_max": _Live(_K.CGROUP, _SIZE, to_amount, "memory.zswap.max: compressed at most"),
    "cgroup.zswap_writeback": _Live(
        _K.CGROUP, "switch", to_switch, "memory.zswap.writeback: pages may go to the swap device"
    ),
}
_HOST: Final = {
    "mechanisms.tps.enabled": _Live(_K.TPS_ENABLED, "switch", to_switch, "whether KSM runs"),
    "mechanisms.tps.pages_to_scan": _Live(
        _K.TPS_PAGES, "number", _count(1, 1_000_000), "pages of one wake-up of ksmd"
    ),
    "mechanisms.tps.sleep": _Live(
        _K.TPS_SLEEP, "duration", to_seconds, "pause between two wake-ups of ksmd"
    ),
    "mechanisms.compression.enabled": _Live(
        _K.COMPRESSION_ENABLED, "switch", to_switch, "whether zswap takes new pages"
    ),
    "host.memory": _Live(_K.BUDGET, "size", to_size, "the host budget"),
}
_SHORT: Final = {"mechanisms.tps": ".enabled", "mechanisms.compression": ".enabled"}
_POLICY: Final = _Live(
    _K.POLICY, "as in the file", lambda raw: raw, "a setting of the policy, by docs/policies.md"
)


def settable() -> tuple[Row, ...]:
    """The whole table: first what can be set while the lab runs, then the rest of the file."""
    live = {f"vms.NAME.{name}": row for name, row in _VM.items()} | _HOST
    live["policy.settings.NAME"] = _POLICY
    rows = [Row(path, row.written, True, row.meaning) for path, row in live.items()]
    for path, field in leaves():
        if path not in live and not path.startswith(("timeline", "expect", "schema_version")):
            rows.append(Row(path, "as in the file", False, field.description or ""))
    return tuple(rows)


def parse_setting(path: str, value: Any, lab: Lab) -> Setting:
    """The change of a running lab that `path` = `value` means.

    Raises SettingError with all that is wrong.
    """
    parts = path.strip().split(".")
    if parts[0] == "vms" and len(parts) > 2:
        return _vm_setting(path, parts[1], ".".join(parts[2:]), value, lab)
    if parts[0] == "policy" and parts[1:2] != ["name"] and len(parts) in (2, 3):
        return _policy_setting(path, parts[-1], value, lab)
    row = _HOST.get(path + _SHORT.get(path, ""))
    if row is None:
        raise SettingError((_unknown(path),))
    read = _read(row, path, value)
    if row.kind is SettingKind.BUDGET and read < 4 * MIB:
        raise _refused("ML018", f"{path}: it must be at least 4MiB", "write 4MiB or more", path)
    return Setting(path, row.kind, read)


def _vm_setting(path: str, target: str, name: str, value: Any, lab: Lab) -> Setting:
    members = lab.members(target)
    if not members:
        known = sorted({vm.name for vm in lab.vms} | {vm.entry for vm in lab.vms})
        raise _refused("ML041", f"no VM is called {target!r}", nearest(target, known), path)
    row = _VM.get(name)
    if row is None:
        raise SettingError((_unknown(path, target),))
    read = _read(row, path, value)
    for vm in members:
        if isinstance(read, Amount) and (size := read.of(vm.memory)) > vm.memory:
            message = f"{path}: {value} is more than {vm.name} has"
            raise _refused("ML018", message, f"write {vm.memory // MIB}MiB or less", path)
        if isinstance(read, Amount) and name == "limit" and size < MIB:
            raise _refused("ML018", f"{path}: the limit is below 1MiB", "write 1MiB or more", path)
        if isinstance(read, WorkloadSpec) and vm.command:
            message = f"{path}: {vm.name} runs a command, not a guest"
            raise _refused("ML022", message, "give it a workload in the file instead", path)
    key = name.removeprefix("cgroup.") if row.kind is SettingKind.CGROUP else ""
    return Setting(path, row.kind, read, tuple(vm.name for vm in members), key)


def _policy_setting(path: str, key: str, value: Any, lab: Lab) -> Setting:
    if lab.policy.name not in POLICIES:
        # A user's own, whose file is not run for this; or none, which is a fault elsewhere.
        return Setting(path, SettingKind.POLICY, value, key=key)
    known = settings_of(lab.policy.name)
    if key not in known:
        message = f"policy {lab.policy.name} has no setting {key!r}"
        raise _refused("ML037", message, nearest(key, list(known)), path)
    try:
        read = known[key].read(value)
    except UnitError as error:
        raise _refused("ML037", f"{path}: {error}", error.fix, path) from None
    return Setting(path, SettingKind.POLICY, read, key=key)


def _read(row: _Live, path: str, value: Any) -> Any:
    try:
        if row.kind is not SettingKind.WORKLOAD:
            return row.read(value)
        workload = row.read({"name": value} if isinstance(value, str) else value)
        workload.arguments  # noqa: B018  # refuses what the workload does not have
    except ValidationError as error:
        faults = tuple(fault_of(e, Document()) for e in error.errors(include_url=False))
        raise SettingError(
            tuple(Fault(f.code, f"{path}.{f.message}", f.fix, path=path) for f in faults)
        ) from None
    except ArgumentsError as error:
        raise SettingError(
            tuple(
                Fault("ML035", f"{path}.args.{name}: {why.context['message']}", why.context["fix"])
                for name, why in error.wrong
                if why.context
            )
        ) from None
    except PydanticCustomError as error:
        single = {"type": error.type, "loc": (), "ctx": error.context, "input": value}
        fault = fault_of(single, Document())
        raise _refused(fault.code, f"{path}: {fault.message}", fault.fix, path) from None
    else:
        return workload


def _refused(code: str, message: str, fix: str, path: str) -> SettingError:
    return SettingError((Fault(code, message, fix, path=path),))


def _unknown(path: str, target: str = "NAME") -> Fault:
    """The fault of a path that is not in the live part of the table."""
    family = "vms" if path.startswith("vms.") else ""
    live = [
        row.path.replace("vms.NAME", f"vms.{target}")
        for row in settable()
        if row.live and row.path.startswith("vms") == bool(family)
    ]
    if type_at(tuple(path.split("."))) is not None:
        fix = "set it in the file or with --set; while it runs there is: " + ", ".join(live)
        return Fault("ML045", f"{path} cannot be changed while the lab runs", fix, path=path)
    return Fault("ML040", f"{path[:80]} cannot be set", nearest(path, live), path=path)
