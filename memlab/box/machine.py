"""A box that runs: QEMU, started from a saved state, and ended with whoever started it."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from memlab.box import layers, recipe
from memlab.box.cache import Box
from memlab.box.qemu import TAG, Hardware, arguments
from memlab.box.tools import require
from memlab.box.wire import CHUNK, Decoder, Message, encode
from memlab.errors import VmError
from memlab.guest.cachedir import discard
from memlab.kernel import qemu
from memlab.lab import manifest

BOOT_SECONDS: Final = 90.0
"""Longest time from nothing to the agent's first word; emulated on a busy machine."""
RESUME_SECONDS: Final = 30.0
KEPT_STATES: Final = 4
_SCRATCH: Final = "/dev/vdd"
_PR_SET_PDEATHSIG: Final = 1

Say = Callable[[str], None]


@dataclass
class Machine:
    """QEMU's process and the agent in it. Made by `start`."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    console: IO[bytes]
    decoder: Decoder

    def send(self, kind: str, data: bytes = b"", **facts: Any) -> None:
        """One message to the agent."""
        try:
            self.channel.sendall(encode(kind, data, **facts))
        except OSError as error:
            raise self.gone() from error

    def receive(self) -> Iterator[Message]:
        """The messages that have come; waits for the first. VmError if the box has gone."""
        try:
            piece = self.channel.recv(4 * CHUNK)
        except TimeoutError:
            raise VmError("box", "the agent is silent", last=self.last_words()) from None
        except OSError:
            piece = b""
        if not piece:
            raise self.gone()
        yield from self.decoder.feed(piece)

    def wait_for(self, kind: str, timeout: float) -> Message:
        """The next message `kind`; others are dropped. VmError if it does not come in time."""
        deadline = time.monotonic() + timeout
        while True:
            self.channel.settimeout(max(0.01, deadline - time.monotonic()))
            for message in self.receive():
                if message.kind == "fault":
                    raise VmError("box", f"the agent failed: {message.facts['why']}")
                if message.kind == kind:
                    self.channel.settimeout(None)
                    return message

    def gone(self) -> VmError:
        """The error that QEMU has ended, with the last that it or its kernel said."""
        status: int | None = None
        with suppress(subprocess.TimeoutExpired):
            status = self.process.wait(1.0)
        how = "has closed its channel" if status is None else f"ended with status {status}"
        return VmError("box", f"QEMU {how}", last=self.last_words())

    def last_words(self) -> str:
        """The end of what QEMU and the kernel have printed."""
        self.console.seek(0)
        text = self.console.read().decode(errors="replace").partition("Kernel panic")[0]
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        return "\n    ".join(lines[-8:])

    def end(self) -> None:
        """End QEMU at once: nothing in a box has to be put in order."""
        self.process.kill()
        self.process.wait()
        self.channel.close()
        self.console.close()


@contextmanager
def start(
    box: Box, hardware: Hardware, *, share: Path | None = None, say: Say
) -> Iterator[Machine]:
    """A box whose agent has answered, its disk and `share` mounted; ended with the context.

    It starts from a saved state, which is made first where there is none.
    """
    require(recipe.QEMU)
    state = saved_state(box, hardware, say=say)
    with ExitStack() as stack:
        source = stack.enter_context(state.open("rb"))
        machine = _spawn(box, hardware, stack, share=share, state=source.fileno())
        attach: dict[str, Any] = {"scratch": _SCRATCH, "clock": time.time()}
        attach["entropy"] = base64.b64encode(secrets.token_bytes(64)).decode()
        if share is not None:
            attach |= {"share": str(share), "tag": TAG}
        machine.send("attach", **attach)
        machine.wait_for("attached", RESUME_SECONDS)
        yield machine


def saved_state(box: Box, hardware: Hardware, *, say: Say) -> Path:
    """The file of a machine that has booted; it is booted now if there is none."""
    from memlab.vm.qmp import Monitor  # asyncio with it: only to save a state

    words = arguments(box, hardware, agent=0, console=0)
    name = layers.key(*words, qemu.version())
    path = box.states / f"{name}.state"
    if path.is_file():
        os.utime(path)
        return path
    say("booting the box once, to start from there later")
    box.states.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".state-", dir=box.states) as made,
        ExitStack() as stack,
    ):
        ours, theirs = socket.socketpair()
        monitor = Monitor("box", ours)
        stack.callback(monitor.close)
        machine = _spawn(box, hardware, stack, monitor=theirs)
        machine.wait_for("hello", BOOT_SECONDS)
        _warm(machine)
        part = Path(made) / "state"
        with part.open("w+b") as file:
            monitor.connect(timeout=BOOT_SECONDS)
            monitor.save(file.fileno(), timeout=BOOT_SECONDS)
        part.replace(path)
    for old in sorted(box.states.glob("*.state"), key=lambda one: -one.stat().st_mtime)[
        KEPT_STATES:
    ]:
        discard(old)
    return path


def _warm(machine: Machine) -> None:
    """What every command reads is in the page cache of the saved state."""
    environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin"}
    words = ["/usr/local/bin/memlab", "--help"]
    machine.send("run", id=0, argv=words, cwd="/", env=environment)
    machine.wait_for("exit", BOOT_SECONDS)


def _spawn(
    box: Box,
    hardware: Hardware,
    stack: ExitStack,
    *,
    share: Path | None = None,
    monitor: socket.socket | None = None,
    state: int | None = None,
) -> Machine:
    """QEMU, which the kernel ends should this process die; `stack` ends it otherwise."""
    ours, theirs = socket.socketpair()
    console = tempfile.TemporaryFile()  # noqa: SIM115 — the machine's, closed at its end
    words = arguments(
        box, hardware, agent=theirs.fileno(), console=console.fileno(), share=share, state=state,
        monitor=monitor.fileno() if monitor else None,
    )  # fmt: skip
    kept = [theirs.fileno(), console.fileno()]
    kept += [fd for fd in (state, monitor.fileno() if monitor else None) if fd is not None]
    process = subprocess.Popen(
        [recipe.QEMU.command, *words], stdin=subprocess.DEVNULL, stdout=console, stderr=console,
        pass_fds=kept, start_new_session=True, preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509
    )  # fmt: skip
    theirs.close()
    if monitor is not None:
        monitor.close()
    machine = Machine(process, ours, console, Decoder())
    stack.callback(machine.end)
    return machine


def _end_with(parent: int) -> Callable[[], None]:
    """For the child, before it becomes QEMU: to be killed when its parent's thread has died."""
    prctl = ctypes.CDLL(None).prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return arm


def told(box: Box, hardware: Hardware) -> dict[str, str]:
    """The variable that tells memlab inside where it runs."""
    facts = {
        "release": str(box.release),
        "accelerator": hardware.accelerator,
        "memory": hardware.memory,
        "host_kernel": os.uname().release,
    }
    return {manifest.BOX: json.dumps(facts)}
