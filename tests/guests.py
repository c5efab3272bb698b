"""Guest agents for tests: real ones, small, in no cgroup, as the user who runs the tests."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memlab.guest import wire
from memlab.guest.build import agent_path
from memlab.units import MIB, PAGE
from memlab.vm.base import Content, Image, VmConfig, WorkloadConfig
from memlab.vm.child import Places
from memlab.vm.process import ProcessVm
from tests.pace import slowness

NOWHERE = Places(memory_group=Path("/"))
SMALL = Image("test", 1 * MIB, Content(zero=0.25, common=0.5, compressible=2))


def config(memory: int = 8 * MIB, **changes: Any) -> VmConfig:
    facts: dict[str, Any] = {"name": "vm", "owner": 1, "seed": 7, "image": SMALL} | changes
    return VmConfig(memory=memory, **facts)


@contextmanager
def running(
    memory: int = 8 * MIB,
    *,
    guest_swap_fd: int | None = None,
    cache_fd: int | None = None,
    **changes: Any,
) -> Iterator[ProcessVm]:
    """A guest that has booted and whose workload runs."""
    vm = ProcessVm(
        config(memory, **changes), NOWHERE, guest_swap_fd=guest_swap_fd, cache_fd=cache_fd
    )
    try:
        vm.start()
        vm.wait_ready(timeout=20)
        yield vm
    finally:
        vm.stop(timeout=2)


def liar(folder: Path, monkeypatch: pytest.MonkeyPatch, *, says: int) -> None:
    """From now on the agents of process VMs say that their workload uses `says` pages."""
    script = folder / "liar"
    script.write_text(f'#!/bin/sh\nexec {agent_path()} --claim {says} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr("memlab.vm.process.agent_path", lambda: script)


@contextmanager
def disk(folder: Path, size: int, *, fill: bool = False) -> Iterator[int]:
    """A file as guest disk; not O_DIRECT, so that any filesystem serves."""
    fd = os.open(folder / "disk", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size)
        if fill:
            os.pwrite(fd, os.urandom(size), 0)
        yield fd
    finally:
        os.close(fd)


def work(name: str, size: int = 0, content: Content | None = None, **args: Any) -> WorkloadConfig:
    return WorkloadConfig(name, size, content or Content(), args)


def set_work(vm: ProcessVm, name: str, size: int = 0, **args: Any) -> dict[str, Any]:
    return vm.link.call("workload", name=name, size=size, content={}, args=args)


def stats(vm: ProcessVm) -> dict[str, Any]:
    """The agent's statistics, whose frames must add up every time."""
    said = vm.link.call("stats")
    kinds = ("used", "cache", "free", "ballooned", "reserved")
    assert sum(said[f"{kind}_pages"] for kind in kinds) == said["configured_pages"]
    assert said["configured_pages"] == vm.config.memory // PAGE
    return said


def verify(vm: ProcessVm) -> dict[str, Any]:
    said = vm.link.call("verify", timeout=60)
    assert said["inconsistent"] is None
    return said


def until(condition: Callable[[], Any], *, timeout: float = 20) -> Any:
    """What `condition` says when it is true for the first time; longer on a slow machine."""
    deadline = time.monotonic() + timeout * slowness()
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition has not come true"
        time.sleep(0.005)
    return found


def event(vm: ProcessVm, name: str, *, timeout: float = 20) -> dict[str, Any]:
    """The next event called `name`; others are dropped."""
    found: dict[str, Any] = until(
        lambda: next((said for said in vm.link.events() if said["event"] == name), None),
        timeout=timeout,
    )
    return found


def filled(vm: ProcessVm) -> dict[str, Any]:
    """Statistics after the first fill."""
    said: dict[str, Any] = until(lambda: (now := stats(vm))["phase"] != "fill" and now)
    return said


def balloon(vm: ProcessVm, size: int) -> dict[str, Any]:
    """Set the target and wait until it is reached, or stuck."""
    vm.link.events()
    vm.link.call("balloon", target=size)
    return event(vm, "balloon")


def touched(vm: ProcessVm) -> list[bool]:
    """The agent's own list: frames touched and not given back."""
    frames = vm.config.memory // PAGE
    assert vm.board_fd is not None
    with mmap.mmap(vm.board_fd, wire.board_size(frames), prot=mmap.PROT_READ) as board:
        return [byte == 1 for byte in board[wire.FRAME_MAP_OFFSET :]]


def backed(vm: ProcessVm) -> list[bool]:
    """What the host's page tables say of the same frames: present or swapped."""
    frames, start = vm.config.memory // PAGE, vm.target.ram_start
    assert start is not None
    with Path(f"/proc/{vm.pid}/pagemap").open("rb", buffering=0) as pagemap:
        raw = os.pread(pagemap.fileno(), 8 * frames, start // PAGE * 8)
    return [entry >> 62 != 0 for entry in struct.unpack(f"<{frames}Q", raw)]


def poke(vm: ProcessVm, frame: int, offset: int = 8) -> None:
    """Change one byte of a guest frame behind the guest's back."""
    assert vm.target.ram_start is not None
    where = vm.target.ram_start + frame * PAGE + offset
    with Path(f"/proc/{vm.pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(where)
        old = memory.read(1)
        memory.seek(where)
        memory.write(bytes([old[0] ^ 0xFF]))
