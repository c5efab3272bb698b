"""QEMU's monitor, asked without asyncio: one command, one answer, events kept until asked for.

The protocol is `qemu.qmp`'s, QEMU's own library; its event loop runs only while something is asked.
"""

from __future__ import annotations

import asyncio
import atexit
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, Final, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

from memlab.errors import VmError

_T = TypeVar("_T")
SECONDS: Final = 5.0
"""A monitor that has not answered after so long belongs to a QEMU that hangs."""
_BANDWIDTH: Final = 10 << 30
"""Bytes a second that a migration may take: as good as no limit on one host."""


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


class Monitor:
    """QEMU's monitor on a connected socket, which it owns."""

    def __init__(self, vm: str, connection: socket.socket) -> None:
        self._vm = vm
        self._socket = connection
        self._client = QMPClient(vm)
        # The library negotiates before it reads events, and takes one that QEMU reports in that
        # moment (RESUME, of a guest that has just been restored) for a refusal: seen now and
        # then when eight start at once. So capabilities are asked for as any other command is.
        self._client.negotiate = False
        self._open = False
        self._kept: list[dict[str, Any]] = []

    def connect(self, *, timeout: float = SECONDS) -> None:
        """Take QEMU's greeting; VmError if it ends or is silent before."""
        self._run("greeting", self._client.connect(self._socket), timeout)
        self._open = True
        self.execute("qmp_capabilities", timeout=timeout)

    def execute(self, command: str, /, *, timeout: float = SECONDS, **arguments: Any) -> Any:
        """What QEMU returns for `command`; underscores of an argument's name mean hyphens.

        VmError with QEMU's own words if it refuses, is silent for `timeout` seconds, or has ended.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self._run(command, self._client.execute(command, named), timeout)

    def human(self, line: str) -> str:
        """What the monitor for people says to `line`, where QMP has no command for it."""
        said = self.execute("human-monitor-command", command_line=line)
        return str(said).strip()

    def send_fd(self, name: str, fd: int) -> None:
        """Give QEMU a copy of `fd`, to be called `name` by commands."""
        self._client.send_fd_scm(fd)
        self.execute("getfd", fdname=name)

    def migrate(self, uri: str, *, timeout: float) -> dict[str, Any]:
        """Send the machine's state to `uri`, as fast as that takes it; what QEMU says of it.

        QEMU reports the end as an event. VmError if it fails or is not over in time.
        """
        self.execute(
            "migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}]
        )
        self.execute("migrate-set-parameters", max_bandwidth=_BANDWIDTH)
        self.execute("migrate", uri=uri)
        deadline = time.monotonic() + timeout
        while (status := self._next_status(deadline)) not in ("completed", "failed"):
            pass
        said: dict[str, Any] = self.execute("query-migrate")
        if status == "failed":
            raise VmError(
                self._vm, f"QEMU could not move it: {said.get('error-desc', 'no reason')}"
            )
        return said

    def save(self, fd: int, *, timeout: float) -> None:
        """Write the machine's state to the file `fd`; the machine is stopped then."""
        self.send_fd("state", fd)
        self.migrate("fd:state", timeout=timeout)

    def _next_status(self, deadline: float) -> str:
        left = max(0.0, deadline - time.monotonic())
        waited: dict[str, Any] = dict(
            self._run("end of the migration", self._client.events.get(), left)
        )
        if waited["event"] != "MIGRATION":
            self._kept.append(waited)
            return ""
        return str(waited["data"]["status"])

    def events(self) -> list[dict[str, Any]]:
        """What QEMU has reported since the last call. Never blocks."""
        if self._open:
            _loop().run_until_complete(asyncio.sleep(0))
        kept, self._kept = self._kept, []
        return kept + [dict(event) for event in self._client.events.clear()]

    def close(self) -> None:
        """Hang up; harmless twice, and when QEMU has ended."""
        if self._open:
            self._open = False
            # It may have ended before us: what it said last was read.
            with suppress(QMPError, EOFError, OSError, TimeoutError):
                _loop().run_until_complete(asyncio.wait_for(self._client.disconnect(), SECONDS))
        self._socket.close()

    def _run(self, what: str, asked: Coroutine[Any, Any, _T], timeout: float) -> _T:
        try:
            return _loop().run_until_complete(asyncio.wait_for(asked, timeout))
        except TimeoutError as error:
            raise VmError(self._vm, f"QEMU is silent: no {what} within {timeout:g} s") from error
        except ExecuteError as error:
            raise VmError(self._vm, f"QEMU refuses {what}: {error}") from error
        except (QMPError, EOFError, OSError) as error:
            raise VmError(self._vm, f"QEMU has ended: no {what}") from error
