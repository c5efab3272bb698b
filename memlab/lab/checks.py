"""What no key can tell alone: sums, names that other parts use, times, conditions.

Each check yields faults with the path they are about. A part that is at fault already says nothing
more: `Checked.dirty` holds those paths, so that one mistake is one fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from memlab.control.policies import POLICIES, settings_of
from memlab.control.userpolicy import fault as user_policy_fault
from memlab.control.userpolicy import is_user_policy
from memlab.errors import Fault
from memlab.guest.workloads import WORKLOADS
from memlab.lab import controls
from memlab.lab.arguments import ArgumentsError
from memlab.lab.checked import Checked
from memlab.lab.checks_qemu import of_process, of_qemu
from memlab.lab.expand import names
from memlab.lab.faults import nearest
from memlab.lab.model import Path
from memlab.lab.settable import SettingError, parse_setting
from memlab.lab.spec import MAX_VMS, SCHEMA_VERSION, Lab, VmSpec, Window
from memlab.lab.values import Amount
from memlab.record.condition import ConditionError, parse
from memlab.units import MIB, UnitError, format_duration, format_size
from memlab.vm.base import Backend

_UNBOUND: Final = frozenset({"cache", "leak"})
"""Workloads whose size is not memory that must fit."""


def check_all(checked: Checked) -> Iterator[Fault]:
    """All faults that only show when the parts are seen together."""
    for check in _CHECKS:
        yield from check(checked)


def _version(it: Checked) -> Iterator[Fault]:
    if it.file.schema_version > SCHEMA_VERSION:
        message = (
            f"the file is of version {it.file.schema_version}, this memlab knows {SCHEMA_VERSION}"
        )
        yield it.fault("ML050", ("schema_version",), message, "install a newer memlab")


def _names(it: Checked) -> Iterator[Fault]:
    """Each VM, entry and group is one word: `set` and conditions could not tell them apart."""
    words = ("host", "lab", "vm")
    owners = dict.fromkeys(words, "a word of the conditions")
    owners |= {name: f"the group {name}" for name in it.file.groups}
    for entry, settings in it.file.vms.items():
        for name in dict.fromkeys((entry, *names(entry, settings))):
            if name in owners:
                message = f"{name!r} would be a VM here, and is {owners[name]}"
                yield it.fault(
                    "ML031", ("vms", entry), message, "call one of them otherwise", key=True
                )
                break
            if len(name) > 32:
                message = f"{name!r} is longer than 32 characters"
                yield it.fault("ML019", ("vms", entry), message, "choose a shorter name", key=True)
                break
            owners[name] = f"a VM of {entry}"
        if settings.group is not None and settings.group not in it.file.groups:
            path, known = ("vms", entry, "group"), list(it.file.groups)
            message = f"no group is called {settings.group!r}"
            yield it.fault("ML030", path, message, nearest(settings.group, known))


def _vms(it: Checked) -> Iterator[Fault]:
    """One VM of each entry is looked at: the others are its equals."""
    for entry, vm in {vm.entry: vm for vm in reversed(it.lab.vms)}.items():
        path = ("vms", entry)
        if (
            not it.clean(*path)
            or not it.clean("defaults")
            or not it.clean("groups", vm.group or "")
        ):
            continue
        yield from _exclusive(it, path, vm)
        yield from (of_qemu if vm.backend is Backend.QEMU else of_process)(it, path, vm)
        if vm.command is None:
            yield from _fits(it, path, vm)
            yield from _arguments(it, path, vm)
        yield from _bounds(it, path, vm)


def _exclusive(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    written = it.file.vms[vm.entry].model_fields_set
    if {"command", "workload"} <= written:
        message = f"{vm.entry} has both a workload and a command"
        yield it.fault("ML022", (*path, "command"), message, "keep one of the two", key=True)
    if vm.command and vm.guest_swap:
        message = f"{vm.entry} runs a command, so that it has no guest with swap"
        yield it.fault("ML022", (*path, "guest_swap"), message, "leave guest_swap out", key=True)


def _fits(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    size, room = vm.workload.size, vm.memory + vm.guest_swap
    if vm.workload.name in _UNBOUND:
        size = 0
    if vm.image.size + size > room:
        have = "memory and guest swap" if vm.guest_swap else "memory"
        message = (
            f"{vm.entry}: image {format_size(vm.image.size)} + workload {format_size(size)} is more"
            f" than its {have}, {format_size(room)}"
        )
        fix = (
            f"let memory be {format_size(vm.image.size + size, digits=0).replace(' ', '')} or more"
        )
        where = next(
            (
                p
                for p in ((*path, "workload", "size"), (*path, "memory"))
                if p in it.document.values
            ),
            path,
        )
        yield it.fault("ML033", where, message, fix)
    if vm.workload.name == "cache" and vm.cache_file < vm.workload.size:
        message = f"{vm.entry}: the workload reads {format_size(vm.workload.size)} of its file"
        fix = f"write cache_file: {format_size(vm.workload.size, digits=0).replace(' ', '')}"
        yield it.fault("ML033", (*path, "workload"), message, fix)


def _arguments(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    here = (*path, "workload", "args")
    try:
        read = vm.workload.arguments
    except ArgumentsError as error:
        for name, why in error.wrong:
            context = why.context or {}
            message = f"{vm.entry}: workload {vm.workload.name}, {name}: {context['message']}"
            fault = it.fault("ML035", (*here, name), message, str(context["fix"]))
            yield fault
        return
    levels = read.get("levels")
    if isinstance(levels, tuple) and max(levels) > vm.workload.size:
        message = (
            f"{vm.entry}: a level of {format_size(max(levels))} is more than the workload's size"
        )
        yield it.fault("ML035", (*here, "levels"), message, "let size be the largest level or more")


def _bounds(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    limit = vm.memory if vm.limit is None else vm.limit
    if limit > vm.memory:
        message = (
            f"{vm.entry}: limit {format_size(limit)} is more than memory {format_size(vm.memory)}"
        )
        yield it.fault("ML034", (*path, "limit"), message, "leave the limit out, or lower it")
    if vm.reservation > min(limit, vm.memory):
        message = (
            f"{vm.entry}: reservation {format_size(vm.reservation)} is more than"
            f" {format_size(min(limit, vm.memory))}, which it can have"
        )
        yield it.fault("ML034", (*path, "reservation"), message, "lower the reservation")
    for name, value in controls.asked(vm).items():
        if isinstance(value, Amount) and (size := value.of(vm.memory)) > vm.memory:
            message = f"{vm.entry}: cgroup.{name} {format_size(size)} is more than its memory"
            fix = f"write {vm.memory // MIB}MiB or less, or leave it out"
            yield it.fault("ML034", (*path, "cgroup", name), message, fix)
    if vm.start >= it.lab.duration and it.clean("duration"):
        message = f"{vm.entry} starts at {format_duration(vm.start)}, when the run is over"
        yield it.fault("ML042", (*path, "start"), message, _before_end(it.lab))


def _host(it: Checked) -> Iterator[Fault]:
    if not (
        it.clean("host") and it.clean("mechanisms") and it.clean("vms") and it.clean("defaults")
    ):
        return
    lab, mechanisms = it.lab, it.lab.mechanisms
    if lab.host.swap is None and mechanisms.compression.enabled:
        message = (
            "compression needs slots of a swap area (zswap stands before it), and there is none"
        )
        fix = "add host.swap with a size, or write mechanisms: {compression: off}"
        yield it.fault("ML036", ("mechanisms", "compression"), message, fix, key=True)
    elif lab.host.swap is None and mechanisms.swap.enabled:
        message = "swap is on, and the lab has no swap area"
        fix = "add host.swap with a size, or write mechanisms: {swap: off}"
        yield it.fault("ML036", ("mechanisms", "swap"), message, fix, key=True)
    if mechanisms.compression.enabled and lab.pool > lab.host.memory // 2:
        message = f"the pool may take {format_size(lab.pool)}, more than half of the host budget"
        path = ("mechanisms", "compression", "pool")
        yield it.fault("ML036", path, message, "write 50% or less")
    ways_out = mechanisms.compression.enabled or mechanisms.swap.enabled
    if lab.active.presses and (lab.host.swap is None or not ways_out):
        message = "active.pressure pushes pages out, and nothing takes them"
        fix = "add host.swap with a size and let compression or swap be on, or leave pressure out"
        yield it.fault("ML036", ("active", "pressure"), message, fix, key=True)
    yield from _damon(it)
    reserved = sum(vm.reservation for vm in lab.vms)
    if reserved > lab.host.memory:
        message = f"reservations are {format_size(reserved)} together, the host budget is less"
        yield it.fault("ML034", ("host", "memory"), message, "lower reservations, or raise it")


def _damon(it: Checked) -> Iterator[Fault]:
    damon = it.lab.active.damon
    if not it.lab.active.monitors or not it.clean("active"):
        return
    if damon.regions.min > damon.regions.max:
        message = f"at least {damon.regions.min} regions are more than {damon.regions.max}"
        yield it.fault(
            "ML036", ("active", "damon", "regions"), message, "let min be max or less", key=True
        )
    if damon.threshold * damon.sample > damon.period:
        message = (
            f"{damon.threshold} looks, one each {format_duration(damon.sample)}, do not fit in a"
            f" period of {format_duration(damon.period)}"
        )
        fix = "take a longer period, a shorter sample or a lower threshold"
        yield it.fault("ML036", ("active", "damon"), message, fix, key=True)


def _policy(it: Checked) -> Iterator[Fault]:
    policy = it.file.policy
    named = ("policy", "name") in it.document.values
    path: Path = ("policy", "name") if named else ("policy",)
    if is_user_policy(policy.name):
        if wrong := user_policy_fault(policy.name, it.folder):
            yield it.fault("ML037", path, *wrong)
        return
    if policy.name not in POLICIES:
        message = f"no policy is called {policy.name[:80]!r}"
        yield it.fault("ML037", path, message, nearest(policy.name, list(POLICIES)))
        return
    known = settings_of(policy.name)
    for key, raw in policy.settings.items():
        path = ("policy", "settings", key)
        if key not in known:
            message = f"policy {policy.name} has no setting {key!r}"
            yield it.fault("ML037", path, message, nearest(key, list(known)), key=True)
            continue
        try:
            known[key].read(raw)
        except UnitError as error:
            yield it.fault("ML037", path, f"{key}: {error}", error.fix)


def _times(it: Checked) -> Iterator[Fault]:
    if not it.clean("duration"):
        return
    for name in ("window", "baseline"):
        window: Window | None = getattr(it.file, name)
        if window is None or not it.clean(name):
            continue
        if window.start >= window.until:
            message = f"the {name} ends before it begins"
            yield it.fault("ML043", (name, "until"), message, "let until be later than from")
        elif window.until > it.file.duration:
            message = f"the {name} ends after the run of {format_duration(it.file.duration)}"
            yield it.fault("ML043", (name, "until"), message, _before_end(it.lab))
    for index, step in enumerate(it.file.timeline):
        if step.at is not None and step.at > it.file.duration and it.clean("timeline", index):
            message = f"at {format_duration(step.at)} the run is over"
            yield it.fault("ML042", ("timeline", index, "at"), message, _before_end(it.lab))
    for index, expect in enumerate(it.file.expect):
        late = expect.within is not None and expect.within > it.file.duration
        if late and it.clean("expect", index):
            message = f"within {format_duration(expect.within or 0)} is longer than the run"
            yield it.fault("ML042", ("expect", index, "within"), message, _before_end(it.lab))


def _before_end(lab: Lab) -> str:
    return f"write {lab.duration:g}s or less, or a longer duration"


def _timeline(it: Checked) -> Iterator[Fault]:
    for index, step in enumerate(it.file.timeline):
        path = ("timeline", index)
        if not it.clean(*path):
            continue
        if step.when is not None:
            yield from _condition(it, (*path, "when"), step.when, instant=True)
        if step.exec is not None and not it.lab.members(step.exec.vm):
            yield from _no_vm(it, (*path, "exec", "vm"), step.exec.vm)
        if step.migrate is not None:
            yield from _migration(it, (*path, "migrate"), step.migrate)
        for name, value in step.set.items():
            try:
                parse_setting(name, value, it.lab)
            except SettingError as error:
                for fault in error.faults:
                    if fault.code == "ML041" and not it.names_known:
                        continue
                    key = fault.code in ("ML040", "ML041", "ML045")
                    yield it.fault(
                        fault.code, (*path, "set", name), fault.message, fault.fix, key=key
                    )


def _migration(it: Checked, path: Path, name: str) -> Iterator[Fault]:
    vm = next((vm for vm in it.lab.vms if vm.name == name), None)
    if vm is None:
        yield from _no_vm(it, path, name)
    elif vm.backend is not Backend.QEMU:
        message = f"{name} is a process, which cannot be migrated"
        yield it.fault("ML038", path, message, "name a VM with backend: qemu")
    elif vm.guest_swap or vm.cache_file or vm.image.path is not None:
        message = f"{name} has disks, and cannot be migrated yet"
        yield it.fault("ML038", path, message, "leave out guest_swap, cache_file and image.path")


def _no_vm(it: Checked, path: Path, name: str) -> Iterator[Fault]:
    if it.names_known:
        known = sorted({vm.name for vm in it.lab.vms})
        yield it.fault("ML041", path, f"no VM is called {name!r}", nearest(name, known))


def _expect(it: Checked) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    for index, expect in enumerate(it.file.expect):
        if not it.clean("expect", index):
            continue
        if expect.name in seen:
            message = f"two expects are called {expect.name!r}"
            yield it.fault("ML031", ("expect", index, "name"), message, "call one otherwise")
        seen[expect.name] = index
        yield from _condition(it, ("expect", index, "that"), expect.that, instant=False)


def _condition(it: Checked, path: Path, text: str, *, instant: bool) -> Iterator[Fault]:
    known = {vm.name for vm in it.lab.vms} if it.names_known else None
    try:
        parse(text, vms=known, instant=instant)
    except ConditionError as error:
        for finding in error.findings:
            message = f"column {finding.column} of the condition: {finding.message}"
            yield it.fault("ML044", path, message, finding.fix)


def _count(it: Checked) -> Iterator[Fault]:
    total = sum(entry.count for entry in it.file.vms.values())
    if total > MAX_VMS:
        message = f"{total:,} VMs; a lab may have {MAX_VMS:,}"
        yield it.fault("ML032", ("vms",), message, "lower the counts", key=True)


_CHECKS: Final[tuple[Callable[[Checked], Iterator[Fault]], ...]] = (
    _version, _count, _names, _vms, _host, _policy, _times, _timeline, _expect,
)  # fmt: skip
assert set(_UNBOUND) <= set(WORKLOADS)
