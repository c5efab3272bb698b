"""Finding out, by doing, what kind of machine this is: rights, memory, cgroups, KVM, containers."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

from memlab.errors import HostError, KernelError
from memlab.kernel import cgroup, meminfo
from memlab.kernel.files import Roots, read_bytes, read_text
from memlab.kernel.finding import Feature, Finding, tried
from memlab.kernel.kvm import LEAST_PER_SECOND, KvmSpeed, measure
from memlab.kernel.task import has_ended
from memlab.units import MIB, format_size

KEPT_FREE = 512 * MIB
"""What a lab leaves available to the host (architecture, rule 2)."""

_SMALLEST_LAB = 64 * MIB
_SYS_ADMIN = 21


def has_root(roots: Roots) -> bool:
    """Whether this process may do what a lab does: user 0 with CAP_SYS_ADMIN."""
    for line in (read_text(roots.proc / "self/status") or "").splitlines():
        if line.startswith("CapEff:"):
            return os.geteuid() == 0 and bool(int(line.split()[1], 16) >> _SYS_ADMIN & 1)
    return False


def probe_root(roots: Roots) -> Finding:
    """Whether a lab can be started from here: as root, or through sudo."""
    how, affects = "read this process's user and capabilities", ("up, down, set, exec",)
    if has_root(roots):
        return Finding(Feature.ROOT, True, how, "root, with CAP_SYS_ADMIN", "", affects)
    if os.geteuid() == 0:
        repair = "start the container with --privileged, or use a VM: see the Vagrantfile"
        return Finding(Feature.ROOT, False, how, "root without CAP_SYS_ADMIN", repair, affects)
    if shutil.which("sudo"):
        reason = "an ordinary user; memlab up asks sudo by itself"
        return Finding(Feature.ROOT, None, how, reason, "", affects)
    repair = "become root (su -) and run memlab there"
    return Finding(Feature.ROOT, False, how, "an ordinary user, and no sudo", repair, affects)


def probe_memory(roots: Roots) -> Finding:
    """How large a lab may be: what is available, less what the host keeps."""
    how, affects = "read /proc/meminfo", ("host.memory",)
    facts = meminfo.parse(read_bytes(meminfo.path(roots)) or b"")
    if facts.available is None:
        return Finding(Feature.MEMORY, None, how, "this kernel does not tell", "", affects)
    room = facts.available - KEPT_FREE
    reason = f"{format_size(facts.available)} available, {format_size(max(room, 0))} for a lab"
    if room >= _SMALLEST_LAB:
        return Finding(Feature.MEMORY, True, how, reason, "", affects)
    repair = "end other programs, or give this machine more memory"
    return Finding(Feature.MEMORY, False, how, reason, repair, affects)


def probe_cgroup(roots: Roots, *, root: bool) -> tuple[Finding, Finding]:
    """Whether a memory cgroup can be made and limited here, and killed as a whole."""
    how = "made a cgroup, limited it, put a process into it and ended it by the group"
    seen = {"kill": "", "freeze": ""}

    def work() -> str:
        layout = cgroup.layout(roots)
        group = cgroup.lab_group(f"probe-{os.getpid()}", roots)
        try:
            group.create()
            limited = group.set_limit(64 * MIB)
            if not limited.took:
                raise HostError(f"the kernel refuses a limit: {limited.refused}")
            seen.update(_kill_and_freeze(group))
        finally:
            group.remove()
        return f"{layout}, below {group.path.parent}"

    made = tried(
        Feature.MEMORY_CGROUP,
        how,
        work,
        affects=("every lab: the host budget is a memory cgroup",),
        root=root,
    )
    return made, _kill_finding(made, seen, how)


def _kill_finding(made: Finding, seen: dict[str, str], how: str) -> Finding:
    affects = ("ending VMs in one step; without it memlab ends them one by one",)
    if not made.works:
        return Finding(Feature.CGROUP_KILL, None, how, made.reason, made.repair, affects)
    words = f"kill: {seen['kill']}, freeze: {seen['freeze']}"
    works = seen["kill"] == "works"
    repair = "" if works else "none needed (Linux 5.14 with a cgroup2 tree has it)"
    return Finding(Feature.CGROUP_KILL, works, how, words, repair, affects)


def _kill_and_freeze(group: cgroup.MemoryGroup) -> dict[str, str]:
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    try:
        group.add(pid)
        frozen = group.freeze()
        group.thaw()
        switch = group.unified_path / "cgroup.kill" if group.unified_path else None
        by_kernel = switch is not None and switch.exists()
        group.kill(timeout=1.0)
        died = has_ended(pidfd, 1.0)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(pidfd)
    return {
        "kill": ("works" if died else "has no effect") if by_kernel else "absent",
        "freeze": "works" if frozen is not None and frozen.took else "absent",
    }


def probe_kvm(device: Path) -> Finding:
    """Whether QEMU VMs run at hardware speed; without KVM they run emulated, ten times slower."""
    how = "ran a program of 131,072 instructions on a virtual CPU"
    affects = ("VMs with backend: qemu (without it they run under TCG, slower)",)
    speed = measure(device)
    if speed is None:
        return Finding(Feature.KVM, None, how, "can be tried on x86-64 only", "", affects)
    if speed.usable:
        words = f"{(speed.per_second or 0) / 1e6:.0f} million instructions a second"
        return Finding(Feature.KVM, True, how, words, "", affects)
    reason, repair = why_no_kvm(speed, device)
    works = None if speed.errno in (errno.EACCES, errno.EPERM) else False
    return Finding(Feature.KVM, works, how, reason, repair, affects)


def why_no_kvm(speed: KvmSpeed, device: Path) -> tuple[str, str]:
    """Why a virtual CPU is of no use here, and the repair."""
    per_second, code = speed.per_second, speed.errno
    if code in (errno.EACCES, errno.EPERM):
        return f"this user may not open {device}", "sudo usermod -aG kvm $USER; log in again"
    if code == errno.ENOENT:
        return f"there is no {device}", (
            "switch virtualisation on in the firmware, or nested virtualisation for this VM"
        )
    seen = (
        f"it runs {per_second / 1e6:.1f} million instructions a second"
        if per_second is not None
        else f"the virtual CPU does not run: {os.strerror(code)}"
    )
    reason = f"{seen}; a guest needs {LEAST_PER_SECOND / 1e6:.0f} million to be of use"
    return reason, "none on this nested host: QEMU VMs run under TCG, slower"


def probe_machine(roots: Roots) -> Finding:
    """What kind of machine this is, and what that kind is known to lack."""
    how = "read the kernel's release, DMI and the signs of containers"
    release = read_text(roots.proc / "sys/kernel/osrelease") or "unknown"
    words, repair = [f"Linux {release}"], ""
    if "microsoft" in release.lower():
        words.append("WSL2: its own kernel, often without KSM and zswap")
        repair = "use a VM with a distribution's kernel: see the Vagrantfile"
    if vendor := _vendor(roots):
        words.append(f"a virtual machine ({vendor})")
    if kind := _container(roots):
        words.append(f"in a container ({kind}): knobs are the host's, and may be read-only")
        repair = repair or "where something is refused: docker run --privileged --cgroupns=host"
    return Finding(Feature.MACHINE, True, how, "; ".join(words), repair, ("all of it",))


_VENDORS = {
    "QEMU": "QEMU or KVM",
    "Amazon EC2": "Amazon EC2",
    "Google": "Google Cloud",
    "Microsoft Corporation": "Hyper-V or Azure",
    "VMware, Inc.": "VMware",
    "innotek GmbH": "VirtualBox",
    "Xen": "Xen",
    "DigitalOcean": "DigitalOcean",
    "Hetzner": "Hetzner Cloud",
    "Parallels": "Parallels",
}


def _vendor(roots: Roots) -> str | None:
    name = read_text(roots.sys / "class/dmi/id/sys_vendor") or ""
    for sign, words in _VENDORS.items():
        if name.startswith(sign):
            return words
    cpu = read_text(roots.proc / "cpuinfo") or ""
    flags = next((line for line in cpu.splitlines() if line.startswith("flags")), "")
    return "of unknown make" if "hypervisor" in flags.split() else None


def _container(roots: Roots) -> str | None:
    if Path("/.dockerenv").exists():
        return "Docker"
    if Path("/run/.containerenv").exists():
        return "Podman"
    try:
        first = read_bytes(roots.proc / "1/environ") or b""
    except KernelError:
        return None  # another user's process
    for entry in first.split(b"\0"):
        if entry.startswith(b"container="):
            return entry.partition(b"=")[2].decode() or None
    return None
