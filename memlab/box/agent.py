"""The agent inside the box: runs commands for the host, and brings out what they write.

Standard library alone, and started once per box: it is part of the saved state. `python3 -m
memlab.box.agent PORT`, where PORT is a virtio-serial port, or a descriptor (for tests).
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import os
import platform
import stat
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from memlab.box.mirror import Watch
from memlab.box.wire import CHUNK, Decoder, Message, encode

CLOSED_SECONDS: Final = 0.02
"""While the host has closed its side a port reads as ended at once: look again after this."""
SCAN_SECONDS: Final = 1.0
"""Time between two looks at what was written."""
LEFT_BEHIND_SECONDS: Final = 1.0
"""How long a command's output is still read after its end: a daemon may hold the pipe for ever."""
WORK: Final = Path("/var/tmp")
_RESEED: Final = 0x5207  # RNDRESEEDCRNG, include/uapi/linux/random.h
_READ_ONLY: Final = 1  # MS_RDONLY


class Agent:
    """One conversation with the host."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._commands: dict[int, Command] = {}
        self._watch: Watch | None = None
        self._scanning = threading.Lock()

    def send(self, kind: str, data: bytes = b"", **facts: Any) -> None:
        """One message to the host, whole: several threads send."""
        left = memoryview(encode(kind, data, **facts))
        with self._lock:
            while left:
                left = left[os.write(self._port, left) :]

    def serve(self) -> None:
        """Do what the host says until it says `off`, or (on a socket) has gone."""
        self.send("hello", kernel=platform.release(), python=platform.python_version())
        decoder = Decoder()
        is_port = stat.S_ISCHR(os.fstat(self._port).st_mode)
        while True:
            piece = os.read(self._port, CHUNK)
            if not piece and not is_port:
                return
            if not piece:
                time.sleep(CLOSED_SECONDS)
            for message in decoder.feed(piece):
                if message.kind == "off":
                    return
                self._do(message)

    def _do(self, message: Message) -> None:
        facts = message.facts
        try:
            match message.kind:
                case "attach":
                    self._attach(facts)
                case "run":
                    command = Command(self, facts)
                    self._commands[command.number] = command
                case "sync":
                    self._scan()
                    self.send("synced")
                case _:
                    self._pass_on(message)
        except OSError as error:
            self.send("fault", id=facts.get("id"), errno=error.errno, why=str(error))

    def _pass_on(self, message: Message) -> None:
        """What is for one command; one that has ended hears nothing."""
        command = self._commands.get(int(message.facts["id"]))
        if command is None:
            return
        match message.kind:
            case "stdin":
                command.write(message.data)
            case "eof":
                command.write(b"")
            case "signal":
                command.signal(int(message.facts["number"]))
            case "resize":
                command.resize(int(message.facts["rows"]), int(message.facts["columns"]))

    def ended(self, number: int) -> None:
        """A command has ended: what it wrote goes out before its status does."""
        self._scan()
        self._commands.pop(number, None)

    def _attach(self, facts: Mapping[str, Any]) -> None:
        """After a start from a saved state: time, randomness, disks, and the host's folder."""
        if "clock" in facts:
            time.clock_settime(time.CLOCK_REALTIME, float(facts["clock"]))
        if "entropy" in facts:
            _reseed(base64.b64decode(facts["entropy"]))
        if "scratch" in facts:
            _mount(str(facts["scratch"]), str(WORK), "ext4", 0, "")
            _make_room()
        written = facts.get("mirror")
        if "share" in facts:
            written = _share(str(facts["tag"]), Path(facts["share"]))
        if written and self._watch is None:
            self._watch = Watch(Path(written), self.send)
            threading.Thread(target=self._look_again, daemon=True).start()
        self.send("attached")

    def _look_again(self) -> None:
        while True:
            time.sleep(SCAN_SECONDS)
            self._scan()

    def _scan(self) -> None:
        with self._scanning:
            if self._watch is not None:
                self._watch.scan()


class Command:
    """One command that runs: its streams go out as they come."""

    def __init__(self, agent: Agent, facts: Mapping[str, Any]) -> None:
        self.number = int(facts["id"])
        self._agent = agent
        self._terminal: int | None = None
        self._process = self._start(facts)
        self._pumps = self._pump_all()
        threading.Thread(target=self._see_through, daemon=True).start()

    def _start(self, facts: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        argv, folder = [str(word) for word in facts["argv"]], str(facts["cwd"])
        environment = {str(name): str(value) for name, value in facts["env"].items()}
        if not facts.get("terminal"):
            return subprocess.Popen(
                argv, cwd=folder, env=environment, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        self._terminal, inner = os.openpty()
        self.resize(*facts["terminal"])
        try:
            return subprocess.Popen(
                argv, cwd=folder, env=environment, start_new_session=True,
                stdin=inner, stdout=inner, stderr=inner,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            )  # fmt: skip
        finally:
            os.close(inner)

    def _pump_all(self) -> list[threading.Thread]:
        process = self._process
        if self._terminal is not None:
            sources = {"out": self._terminal}
        else:
            assert process.stdout and process.stderr
            sources = {"out": process.stdout.fileno(), "err": process.stderr.fileno()}
        threads = [
            threading.Thread(target=self._pump, args=(kind, fd), daemon=True)
            for kind, fd in sources.items()
        ]
        for thread in threads:
            thread.start()
        return threads

    def _pump(self, kind: str, fd: int) -> None:
        with suppress(OSError):  # a terminal whose other side has closed: EIO
            while piece := os.read(fd, CHUNK):
                self._agent.send(kind, piece, id=self.number)

    def _see_through(self) -> None:
        status = self._process.wait()
        for pump in self._pumps:
            pump.join(LEFT_BEHIND_SECONDS)
        self._agent.ended(self.number)
        self._agent.send("exit", id=self.number, status=status)

    def write(self, data: bytes) -> None:
        """Bytes for its standard input; none closes it. One that reads no more misses nothing."""
        with suppress(BrokenPipeError, ValueError, OSError):
            if self._terminal is not None:
                os.write(self._terminal, data or b"\x04")
            elif self._process.stdin:
                if data:
                    self._process.stdin.write(data)
                    self._process.stdin.flush()
                else:
                    self._process.stdin.close()

    def signal(self, number: int) -> None:
        """A signal to the command and to all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def resize(self, rows: int, columns: int) -> None:
        """The terminal has another size now."""
        if self._terminal is not None:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [word.encode() for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {source} at {target}: {os.strerror(number)}")


def _make_room() -> None:
    """/tmp and root's home are on the disk too: what is written there takes no memory."""
    for name, mode in (("tmp", 0o1777), ("root", 0o700), ("upper", 0o755), ("work", 0o755)):
        (WORK / ".box" / name).mkdir(parents=True, exist_ok=True)
        (WORK / ".box" / name).chmod(mode)
    bind = 4096  # MS_BIND
    _mount(str(WORK / ".box/tmp"), "/tmp", "none", bind, "")
    _mount(str(WORK / ".box/root"), "/root", "none", bind, "")


def _share(tag: str, folder: Path) -> Path:
    """The host's folder, to be read; what is written to it is kept apart: where."""
    lower, upper = Path("/run/box/host"), WORK / ".box/upper"
    for place in (lower, folder):
        place.mkdir(parents=True, exist_ok=True)
    transport = "trans=virtio,version=9p2000.L,cache=mmap,msize=262144"
    _mount(tag, str(lower), "9p", _READ_ONLY, transport)
    layers = f"lowerdir={lower},upperdir={upper},workdir={WORK / '.box/work'}"
    _mount("host", str(folder), "overlay", 0, layers)
    return upper


def _reseed(entropy: bytes) -> None:
    """Machines from one saved state would all draw the same random numbers."""
    with Path("/dev/urandom").open("wb", buffering=0) as device:
        device.write(entropy)
        fcntl.ioctl(device, _RESEED)


def main(place: str) -> None:
    """Serve the port at `place`, a path or a descriptor's number."""
    port = int(place) if place.isdigit() else os.open(place, os.O_RDWR | os.O_CLOEXEC)
    Agent(port).serve()


if __name__ == "__main__":
    main(sys.argv[1])
