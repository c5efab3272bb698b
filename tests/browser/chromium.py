"""A headless Chromium, spoken to through a pipe: what the page drew, said and asked for.

The DevTools protocol over file descriptors 3 and 4 (`--remote-debugging-pipe`), JSON texts ended by
a zero byte: no library, no port.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_PATIENCE: Final = 30.0


def find() -> str | None:
    """The browser of this machine, if it has one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Tab:
    """One page. `said` are console messages and exceptions, `asked` the addresses it fetched."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._number, self._pending = 0, b""
        self._session = ""
        self._loaded = False
        self.said: list[str] = []
        self.asked: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(self, path: Path, *, before: str = "", width: int = 1400, height: int = 1000) -> None:
        """Load a file, after running the script `before`, to its end."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        if before:
            self.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        self._loaded = False
        self.call("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._note(self._receive())

    def until(self, expression: str) -> None:
        """Wait until the expression is true in the page."""
        limit = time.monotonic() + _PATIENCE
        while not self.value(expression):
            assert time.monotonic() < limit, f"never true: {expression}; the page said {self.said}"
            time.sleep(0.05)

    def value(self, expression: str) -> Any:
        """What the expression is in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def move(self, x: float, y: float) -> None:
        """Point at a place of the page."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """The page as a PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], _PATIENCE)
            assert ready, "the browser is silent"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser has ended"
            self._pending += more
        text, _, self._pending = self._pending.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.said.append(str(details.get("exception", details).get("description", details)))
            case "Runtime.consoleAPICalled":
                self.said.append(str(parameters["args"]))
            case "Log.entryAdded":
                self.said.append(str(parameters["entry"]["text"]))
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.asked.append(str(parameters["request"]["url"]))


@contextmanager
def tab() -> Iterator[Tab]:
    """A browser with one empty page, ended afterwards."""
    browser = find()
    assert browser is not None, "apt-get install chromium, as scripts/test browser does"
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def place() -> None:
        # Above the descriptors that are to become 3 and 4, so that neither overwrites the other.
        high_in, high_out = os.dup2(to_read, 203), os.dup2(from_write, 204)
        os.dup2(high_in, 3)
        os.dup2(high_out, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        process = subprocess.Popen(
            [browser, *_FLAGS, f"--user-data-dir={home}"],
            preexec_fn=place,  # noqa: PLW1509 (a test has no threads)
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(from_write)
        try:
            yield Tab(to_write, from_read)
        finally:
            os.close(to_write)
            os.close(from_read)
            process.terminate()
            process.wait(10)
