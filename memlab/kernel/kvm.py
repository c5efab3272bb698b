"""Whether KVM is of use here, found by running a program on it.

That /dev/kvm can be opened proves nothing: on some nested hosts a guest is interpreted at two
million instructions a second, boots half-way and dies. So a virtual CPU in real mode counts a
register down to zero and halts, and is timed; hardware needs well under a millisecond for it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import signal
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.kernel.task import has_ended

LEAST_PER_SECOND: Final = 50_000_000
"""Instructions a second below which a guest does not boot in any useful time."""

TIMEOUT: Final = 1.5
DEVICE: Final = Path("/dev/kvm")

_ROUNDS: Final = 65_536
_INSTRUCTIONS: Final = 2 * _ROUNDS
_LOAD: Final = 0x1000
# mov ecx, ROUNDS; again: dec ecx; jnz again; hlt (16-bit code, 32-bit operands)
_PROGRAM: Final = b"\x66\xb9" + struct.pack("<I", _ROUNDS) + b"\x66\x49\x75\xfc\xf4"

_GET_API_VERSION: Final = 0xAE00
_CREATE_VM: Final = 0xAE01
_GET_VCPU_MMAP_SIZE: Final = 0xAE04
_CREATE_VCPU: Final = 0xAE41
_SET_USER_MEMORY_REGION: Final = 0x4020AE46
_RUN: Final = 0xAE80
_SET_REGS: Final = 0x4090AE82
_GET_SREGS: Final = 0x8138AE83
_SET_SREGS: Final = 0x4138AE84
_SREGS_BYTES: Final = 0x138
_REGS: Final = struct.Struct("=18Q")  # rax … r15, rip, rflags
_EXIT_REASON_AT: Final = 8
_EXIT_HLT: Final = 5
_RESULT: Final = struct.Struct("=id")


@dataclass(frozen=True, slots=True)
class KvmSpeed:
    """What came of the program: instructions a second, or why there is no figure (errno)."""

    per_second: float | None
    errno: int = 0

    @property
    def usable(self) -> bool:
        """Whether a guest would run at the speed of hardware."""
        return self.per_second is not None and self.per_second >= LEAST_PER_SECOND


def measure(device: Path = DEVICE, *, timeout: float = TIMEOUT) -> KvmSpeed | None:
    """Run the program in a child, killed after `timeout` s; None on other machines than x86-64.

    ETIMEDOUT: slower than the time allows; ENOEXEC: it ended otherwise than by halting.
    """
    if platform.machine() != "x86_64":
        return None
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run_and_exit(device, writer)
    os.close(writer)
    pidfd = os.pidfd_open(pid)
    try:
        if not has_ended(pidfd, timeout):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        raw = os.read(reader, _RESULT.size)
    finally:
        os.close(pidfd)
        os.close(reader)
    if len(raw) < _RESULT.size:
        return KvmSpeed(None, errno.ETIMEDOUT)
    code, seconds = _RESULT.unpack(raw)
    return KvmSpeed(None, code) if code else KvmSpeed(_INSTRUCTIONS / max(seconds, 1e-9))


def _run_and_exit(device: Path, writer: int) -> None:
    code, seconds = errno.ENOEXEC, 0.0
    try:
        seconds = _run(device)
        code = 0
    except OSError as error:
        code = error.errno or errno.ENOEXEC
    finally:
        with suppress(OSError):
            os.write(writer, _RESULT.pack(code, seconds))
        os._exit(0)


def _run(device: Path) -> float:
    """Seconds that the virtual CPU takes; OSError as the kernel says it. For use in a child."""
    kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(kvm, _GET_API_VERSION)
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory.write(_PROGRAM)
    address = _address_of(memory)
    region = struct.pack("=IIQQQ", 0, 0, _LOAD, mmap.PAGESIZE, address)
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, region)
    cpu = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    state = mmap.mmap(cpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE))
    _point_to_program(cpu)
    begin = time.perf_counter()
    fcntl.ioctl(cpu, _RUN, 0)
    seconds = time.perf_counter() - begin
    (reason,) = struct.unpack_from("=I", state, _EXIT_REASON_AT)
    if reason != _EXIT_HLT:
        raise OSError(errno.ENOEXEC, "the virtual CPU did not halt")
    return seconds


def _point_to_program(cpu: int) -> None:
    segments = bytearray(_SREGS_BYTES)
    fcntl.ioctl(cpu, _GET_SREGS, segments)
    struct.pack_into("=Q", segments, 0, 0)  # cs: base
    struct.pack_into("=H", segments, 12, 0)  # cs: selector
    fcntl.ioctl(cpu, _SET_SREGS, segments)
    fcntl.ioctl(cpu, _SET_REGS, _REGS.pack(*[0] * 16, _LOAD, 2))


def _address_of(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
