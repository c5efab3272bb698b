"""As much of QEMU's monitor protocol as saving a state takes."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from memlab.errors import MemlabError


class Monitor:
    """QEMU's monitor on a connected socket. MemlabError with QEMU's own words if it refuses."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._read()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """What QEMU returns for `command`."""
        asked = {"execute": command, "arguments": arguments}
        self._connection.sendall(json.dumps(asked).encode() + b"\n")
        while True:
            answer = self._read()
            if "error" in answer:
                raise MemlabError(f"QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def save(self, target: str, *, timeout: float) -> None:
        """Write the machine's state to the file `target`, as a shell has to be told it."""
        self.execute("migrate-set-parameters", **{"max-bandwidth": 10 << 30})
        self.execute("migrate", uri=f"exec:cat >{target}")
        deadline = time.monotonic() + timeout
        while (status := self.execute("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise MemlabError(f"QEMU could not save the box's state: {status}")
            time.sleep(0.02)

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise MemlabError("QEMU has ended", hint="see its last words with --verbose")
        answer: dict[str, Any] = json.loads(line)
        return answer
