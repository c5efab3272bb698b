"""The main process's side of the sampler: start it, tell it of VMs, hear of samples, stop it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

import memlab
from memlab.errors import RecordingError
from memlab.kernel.undone import undone_on_failure
from memlab.record.channel import Channel, Closed, Periods, Start, encode_vm
from memlab.record.columns import Tier
from memlab.record.reading import LabTarget
from memlab.record.sample import VmInfo
from memlab.vm.base import Backend, Target

__all__ = ["LabTarget", "Notice", "Observer", "Periods", "Trouble"]

DEFAULT: Final = Periods()
_ANSWER_SECONDS: Final = 10.0
_START_SECONDS: Final = 60.0
"""Until the first answer: on an emulated CPU, beside busy guests, Python may take 12 s to start."""
_SCRIPT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from memlab.record.sampler import main; sys.exit(main(int(sys.argv[2])))"
)


@dataclass(frozen=True, slots=True)
class Notice:
    """A sample has been committed: its tier, and its number in the recording."""

    tier: Tier
    sample: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Samples, or a VM's part of them, are being lost: why, and what can be done."""

    message: str
    hint: str = ""


class Observer:
    """A running sampler. Use `start`; it is a context manager that stops it."""

    def __init__(
        self, process: subprocess.Popen[bytes], channel: Channel, words: IO[bytes]
    ) -> None:
        self._process = process
        self._channel = channel
        self._words = words
        self._number = 0
        self._heard: list[dict[str, Any]] = []

    @classmethod
    def start(
        cls,
        path: Path,
        *,
        clock_zero: int,
        lab: LabTarget,
        periods: Periods = DEFAULT,
        guard_pid: int | None = None,
        max_size: int | None = None,
    ) -> Self:
        """Start sampling the lab into the recording at `path`, which must have been created.

        `clock_zero` is the CLOCK_BOOTTIME (ns) of time 0. Beyond `max_size` bytes of recording
        samples are dropped. Raises RecordingError with the sampler's last words if it fails.
        """
        channel, theirs = Channel.pair()
        words = os.fdopen(os.memfd_create("memlab-sampler-words"), "w+b")
        package = Path(memlab.__file__).parents[1]
        with theirs:
            process = subprocess.Popen(
                # -I -S: nobody's PYTHONPATH, no site-packages: small, and the same everywhere.
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-B",
                    "-c",
                    _SCRIPT,
                    str(package),
                    str(theirs.fileno()),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                start_new_session=True,
            )
        observer = cls(process, channel, words)
        start = Start(path.absolute(), clock_zero, lab, periods, os.getpid(), guard_pid, max_size)
        with undone_on_failure(observer.stop):
            try:
                channel.send(start.encode())
                observer._ask("ping", within=_START_SECONDS)
            except Closed as closed:
                raise observer._ended() from closed
        return observer

    @property
    def pid(self) -> int:
        """The sampler's process."""
        return self._process.pid

    def add(
        self,
        target: Target,
        *,
        owner: int,
        backend: Backend = Backend.PROCESS,
        board_fd: int | None = None,
    ) -> None:
        """Sample this VM too. The descriptor of its board is copied, and stays the caller's.

        RecordingError if there are more files than the sampler may open.
        """
        info = VmInfo(target.name, owner, str(backend), target.configured)
        fds = () if board_fd is None else (board_fd,)
        self._ask("add", *fds, vm=encode_vm(target, info))

    def remove(self, name: str) -> None:
        """Sample this VM no more; harmless if it is not sampled."""
        self._ask("remove", name=name)

    def tell(self, name: str, columns: Mapping[str, int | None]) -> None:
        """Let the sampler record these raw columns of a VM (`sample.TOLD`) from now on."""
        self._send({"do": "told", "name": name, "columns": dict(columns)})

    def deep_now(self) -> None:
        """Let a deep sample be taken at once; its notice tells when it is there."""
        self._send({"do": "deep"})

    def fileno(self) -> int:
        """For select and poll: readable when there are notices."""
        return self._channel.fileno()

    def notices(self, timeout: float = 0.0) -> list[Notice | Trouble]:
        """What the sampler has told since the last call, waiting up to `timeout` for the first.

        Raises RecordingError with its last words if it has ended.
        """
        try:
            while (received := self._channel.receive(0.0 if self._heard else timeout)) is not None:
                self._heard.append(received[0])
        except Closed as closed:
            if not self._heard:
                raise self._ended() from closed
        heard, self._heard = self._heard, []
        return [_notice(message) for message in heard if "id" not in message]

    def stop(self, *, timeout: float = 5.0) -> None:
        """End the sampler; every sample that was told of is in the file. Harmless if it ended."""
        with contextlib.suppress(RecordingError):  # it has ended by itself, and that was told
            self._send({"id": 0, "do": "stop"})
        self._channel.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _send(self, message: dict[str, Any], *fds: int) -> None:
        try:
            self._channel.send(message, fds)
        except Closed as closed:
            raise self._ended() from closed

    def _ask(self, do: str, /, *fds: int, within: float = _ANSWER_SECONDS, **fields: Any) -> None:
        """Send a command and wait for its answer; notices that come before it are kept."""
        self._number += 1
        self._send({"id": self._number, "do": do, **fields}, *fds)
        try:
            while (received := self._channel.receive(within)) is not None:
                message = received[0]
                if message.get("id") == self._number:
                    if not message["ok"]:
                        raise RecordingError(message["error"], hint=message["hint"])
                    return
                self._heard.append(message)
        except Closed as closed:
            raise self._ended() from closed
        raise RecordingError(
            f"the sampler does not answer for {within:.0f} s",
            hint="the disk of the recording may be stuck; what was recorded is safe",
        )

    def _ended(self) -> RecordingError:
        """What to say of a sampler that is gone."""
        try:
            status: int | None = self._process.wait(1)
        except subprocess.TimeoutExpired:
            status = None
        self._words.seek(0)
        last = self._words.read()[-2000:].decode(errors="replace").strip()
        return RecordingError(
            f"the sampler has ended (status {status}){': ' + last if last else ''}",
            hint="what was recorded until then is safe in the file",
        )


def _notice(message: dict[str, Any]) -> Notice | Trouble:
    if "trouble" in message:
        return Trouble(message["trouble"], message.get("hint", ""))
    return Notice(Tier(message["tier"]), message["sample"])
