"""The line between the main process and the sampler: one JSON object a packet, files passed along.

    {"id":1,"do":"add","vm":{…}}  + a board's descriptor     → {"id":1,"ok":true}
    {"id":2,"do":"remove","name":"web-1"}                    → {"id":2,"ok":true}
    {"do":"deep"}   {"do":"told","name":"q-1","columns":{…}}   {"id":9,"do":"stop"}

The sampler tells unasked `{"tier":"fast","sample":12}` after each commit, and `{"trouble":"…"}`
when a sample could not be stored. A line that has closed ends either side.
"""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from memlab.record.columns import Tier
from memlab.record.reading import LabTarget
from memlab.record.sample import VmInfo
from memlab.vm.base import Target

_LARGEST: Final = 65536


class Closed(Exception):  # noqa: N818  # it is no fault: the other side has ended
    """The other side has closed the line."""


class Channel:
    """One end of the line."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @staticmethod
    def pair() -> tuple[Channel, socket.socket]:
        """Our end, and the other one for the process to be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Channel(ours), theirs

    def fileno(self) -> int:
        """For select and poll."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message and descriptors with it; Closed if nobody reads any more."""
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], list(fds))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message that may be lost: a reader that is stopped must not stop us."""
        try:
            self._socket.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def receive(self, timeout: float) -> tuple[dict[str, Any], list[int]] | None:
        """The next message and its descriptors; None if none came in `timeout` seconds."""
        if not select.select([self._socket], [], [], max(0.0, timeout))[0]:
            return None
        try:
            raw, fds, _, _ = socket.recv_fds(self._socket, _LARGEST, 1)
        except ConnectionResetError as error:
            raise Closed from error
        if not raw:
            raise Closed
        message: dict[str, Any] = json.loads(raw)
        return message, fds

    def close(self) -> None:
        """Close our end."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Periods:
    """Seconds between samples of each tier. Deep is stretched to stay within `deep_share`, the
    part of one core that walking page tables may take over time. `referenced` are the seconds
    between two looks at the VMs' accessed bits; 0: none is taken."""

    fast: float = 0.25
    medium: float = 1.0
    deep: float = 1.0
    deep_share: float = 0.05
    referenced: float = 0.0

    def of(self, tier: Tier) -> float:
        """Seconds between samples of `tier`."""
        return {Tier.FAST: self.fast, Tier.MEDIUM: self.medium, Tier.DEEP: self.deep}[tier]


@dataclass(frozen=True, slots=True)
class Start:
    """What the sampler is told at its start. `clock_zero` is CLOCK_BOOTTIME, ns, of time 0."""

    path: Path
    clock_zero: int
    lab: LabTarget
    periods: Periods = Periods()
    main_pid: int = 0
    guard_pid: int | None = None
    max_size: int | None = None

    def encode(self) -> dict[str, Any]:
        """As a JSON object."""
        return encode(asdict(self))

    @classmethod
    def decode(cls, raw: dict[str, Any]) -> Self:
        """From a JSON object."""
        lab = raw.pop("lab")
        return cls(
            path=Path(raw.pop("path")),
            lab=LabTarget(
                memory_group=Path(lab["memory_group"]),
                unified_group=_path(lab["unified_group"]),
                budget=lab["budget"],
                swap_device=_path(lab["swap_device"]),
            ),
            periods=Periods(**raw.pop("periods")),
            **raw,
        )


def encode(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass, with paths as text."""
    return {
        name: encode(value)
        if isinstance(value, dict)
        else os.fspath(value)
        if isinstance(value, Path)
        else value
        for name, value in fields.items()
    }


def encode_vm(target: Target, info: VmInfo) -> dict[str, Any]:
    """A VM as a JSON object."""
    return {"target": encode(asdict(target)), "info": asdict(info)}


def decode_vm(raw: dict[str, Any]) -> tuple[Target, VmInfo]:
    """A VM from a JSON object."""
    fields: dict[str, Any] = raw["target"]
    for name in ("memory_group", "unified_group"):
        fields[name] = _path(fields[name])
    return Target(**fields), VmInfo(**raw["info"])


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
