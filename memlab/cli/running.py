"""The lab that runs on this host now, as the commands see it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from memlab.errors import HostError, MemlabError, OwnedError
from memlab.kernel.entries import Header
from memlab.kernel.lock import owned_error, owner
from memlab.kernel.owner import recover
from memlab.kernel.restored import Restored
from memlab.kernel.rundir import RunDir, place
from memlab.lab.channel import NAME, ask

DOWN_SECONDS: Final = 60.0


def running() -> Header | None:
    """The run that owns this host now; None if it is free."""
    with RunDir.open(create=False) or _Nothing() as run:
        return owner(run) if run is not None else None


def hidden() -> bool:
    """Whether only root could say if a lab runs: its directory is there, and not ours to open."""
    return place().exists() and not os.access(place(), os.R_OK | os.X_OK)


def tell(question: Mapping[str, Any], *, timeout: float = 30.0) -> Mapping[str, Any]:
    """Ask the running lab; HostError if there is none."""
    return ask(place() / NAME, question, timeout=timeout)


def give_back_the_dead() -> Restored | None:
    """Undo what a run has left whose main and guard both died. Every command begins so."""
    restored = recover()
    if restored is not None:
        restored.check()
    return restored


def end_running() -> str | None:
    """End the running lab and wait until the host is given back: its name, None without one."""
    found = running()
    if found is None:
        return None
    tell({"verb": "down"})
    deadline = time.monotonic() + DOWN_SECONDS
    while running() is not None:
        if time.monotonic() > deadline:
            raise MemlabError(
                f"lab {found.lab} has not ended within {DOWN_SECONDS:.0f} s",
                hint="look at its log: memlab logs; then try again: memlab down",
            )
        time.sleep(0.05)
    return found.lab


def refuse_second() -> NoReturn:
    """OwnedError that names the lab that owns this host, and what to do."""
    with RunDir.open(create=False) or _Nothing() as run:
        if run is not None:
            raise owned_error(run)
    raise OwnedError("another lab has just ended", hint="try again")


def needed() -> Header:
    """The running lab's facts; HostError if there is none."""
    found = running()
    if found is None:
        raise HostError("no lab is running", hint="start one: memlab up quickstart")
    return found


class _Nothing:
    """Stands for a run directory that is not there."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None
