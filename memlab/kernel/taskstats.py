"""taskstats: how long tasks have waited for memory, by generic netlink, without a library.

The kernel answers for a task or a whole thread group (2.6.18): nanoseconds and counts of swap-in,
of thrashing (pages that had just been evicted, 4.20), of direct reclaim ("freepages"), of
compaction (5.17) and of copying on write, the price of merged pages ("wpcopy", 5.19). It counts
for tasks that began while the sysctl `kernel.task_delayacct` was 1 (0 by default since 5.14), so it
is turned before the VMs start. One kept socket: 6 µs a question,
and as much to decode the answer.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from memlab.errors import HostError, KernelError
from memlab.kernel.files import HOST, Roots, read_int
from memlab.kernel.undone import undone_on_failure

_NETLINK_GENERIC: Final = 16
_GENL_ID_CTRL: Final = 16
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
_TASKSTATS_CMD_GET: Final = 1
_CMD_ATTR_PID, _CMD_ATTR_TGID = 1, 2
_TYPE_STATS, _TYPE_AGGR_PID, _TYPE_AGGR_TGID = 3, 4, 5
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2

_NLMSG: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_GENL: Final = struct.Struct("=BBH")  # command, version, reserved
_ATTR: Final = struct.Struct("=HH")  # length, type
_PAIR: Final = struct.Struct("=QQ")  # count, nanoseconds
_ANSWER: Final = 8192
_ONE_SECOND: Final = struct.pack("@ll", 1, 0)  # struct timeval

_OFFSETS: Final = {  # of struct taskstats: place, version that brought it
    "swapin": (48, 1),
    "freepages": (312, 8),
    "thrashing": (328, 9),
    "compact": (352, 11),
    "wpcopy": (400, 13),
}
_BROKEN_VERSION: Final = 15
"""6.14 put new fields into the middle (f65c64f311ee); 16 moved them to the end again."""


@dataclass(frozen=True, slots=True)
class Delay:
    """How often something was waited for, and how long in all, since the task began."""

    count: int
    ns: int


@dataclass(frozen=True, slots=True)
class Delays:
    """Delays of a task or thread group; None where this kernel's struct has no such field."""

    version: int
    swapin: Delay | None = None
    freepages: Delay | None = None
    thrashing: Delay | None = None
    compact: Delay | None = None
    wpcopy: Delay | None = None

    def ns(self, names: Iterable[str]) -> tuple[int | None, ...]:
        """The nanoseconds of these delays, in their order."""
        found = [getattr(self, name) for name in names]
        return tuple([None if delay is None else delay.ns for delay in found])


def delayacct_path(roots: Roots = HOST) -> Path:
    """The switch, to be journalled like a knob (5.14; a boot parameter before)."""
    return roots.proc / "sys/kernel/task_delayacct"


def delayacct(roots: Roots = HOST) -> bool | None:
    """Whether delays are counted for tasks that begin now; None without CONFIG_TASK_DELAY_ACCT."""
    value = read_int(delayacct_path(roots))
    return None if value is None else value != 0


def decode(stats: bytes) -> Delays:
    """Delays from a struct taskstats, by its version (the first 16 bits)."""
    version = int.from_bytes(stats[:2], _ORDER)
    if version == _BROKEN_VERSION:
        return Delays(version)
    found = {
        name: Delay(*_PAIR.unpack_from(stats, place))
        for name, (place, since) in _OFFSETS.items()
        if version >= since and place + _PAIR.size <= len(stats)
    }
    return Delays(version, **found)


_ORDER: Final = "little" if struct.pack("=H", 1) == b"\x01\x00" else "big"


class Taskstats:
    """A kept socket to the kernel's taskstats. HostError where the kernel has none."""

    def __init__(self) -> None:
        self._sequence = 0
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
        except OSError as error:
            raise _missing() from error
        with undone_on_failure(self.close):
            self._socket.bind((0, 0))
            # Not settimeout(), which polls before every call and costs half as much again.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ONE_SECOND)
            self._family = self._find_family()

    def of_group(self, tgid: int) -> Delays | None:
        """Delays of all threads of a process, ended ones too; None if it has ended."""
        return self._delays(_CMD_ATTR_TGID, _TYPE_AGGR_TGID, tgid)

    def of_task(self, tid: int) -> Delays | None:
        """Delays of one thread; None if it has ended."""
        return self._delays(_CMD_ATTR_PID, _TYPE_AGGR_PID, tid)

    def _delays(self, question: int, kind: int, number: int) -> Delays | None:
        answer = self._ask(
            self._family, _TASKSTATS_CMD_GET, _attribute(question, struct.pack("=I", number))
        )
        if answer is None:
            return None
        return decode(_attributes(_attributes(answer)[kind])[_TYPE_STATS])

    def _find_family(self) -> int:
        name = _attribute(_CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0")
        answer = self._ask(_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, name)
        if answer is None:
            raise _missing()
        return int.from_bytes(_attributes(answer)[_CTRL_ATTR_FAMILY_ID], _ORDER)

    def _ask(self, family: int, command: int, payload: bytes) -> bytes | None:
        """The attributes of the kernel's answer; None for "no such process" or "no such family"."""
        self._sequence += 1
        body = _GENL.pack(command, 1, 0) + payload
        header = _NLMSG.pack(
            _NLMSG.size + len(body), family, _NLM_F_REQUEST, self._sequence & 0xFFFFFFFF, 0
        )
        self._socket.send(header + body)
        while True:
            answer = self._receive()
            length, kind, _, sequence, _ = _NLMSG.unpack_from(answer)
            if sequence == self._sequence & 0xFFFFFFFF:
                break  # else the answer to a question that had timed out
        if kind == _NLMSG_ERROR:
            code = -struct.unpack_from("=i", answer, _NLMSG.size)[0]
            if code in (errno.ESRCH, errno.ENOENT):
                return None
            raise KernelError("netlink:taskstats", "ask", code, hint=_hint(code))
        return answer[_NLMSG.size + _GENL.size : length]

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_ANSWER)
        except OSError as error:
            raise KernelError("netlink:taskstats", "hear from", error.errno or 0) from error

    def close(self) -> None:
        """Give the socket back. Closing twice is harmless."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return _ATTR.pack(_ATTR.size + len(value), kind) + value + padding


def _attributes(raw: bytes) -> dict[int, bytes]:
    """The attributes in `raw` by kind; the two high bits of a kind are marks, not part of it."""
    found = {}
    at = 0
    while at + _ATTR.size <= len(raw):
        length, kind = _ATTR.unpack_from(raw, at)
        if length < _ATTR.size:
            break
        found[kind & 0x3FFF] = raw[at + _ATTR.size : at + length]
        at += length + -length % 4
    return found


def _hint(code: int) -> str:
    return "Task delays need root (CAP_NET_ADMIN)." if code == errno.EPERM else os.strerror(code)


def _missing() -> HostError:
    return HostError(
        "this kernel does not tell how long tasks waited (taskstats)",
        hint="It needs CONFIG_TASKSTATS and CONFIG_TASK_DELAY_ACCT; the delay columns stay absent.",
    )
