"""`up -d`: the same run, in a process of its own; the command returns when its VMs run."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

from memlab.cli.words import say, show_error
from memlab.errors import MemlabError

if TYPE_CHECKING:
    from memlab.lab.prepare import Prepared
    from memlab.lab.session import Session

READY_SECONDS: Final = 120.0
_TICK: Final = 0.05


def detached(prepared: Prepared) -> int:
    """Run the lab in the background; 0 once it runs, else what its own exit status was."""
    from memlab.lab.session import Nobody, Session

    session = Session(prepared, Nobody())
    log = session.directory / "lab.log"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _become(session, str(log))
    return _wait_until_it_runs(child, prepared.loaded.lab.name, str(log))


def _become(session: Session, log: str) -> None:
    """In the child: a session of its own, its words in the log, then the run. Does not return."""
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for have, want in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(have, want)
    status = 1
    try:
        status = session.run().exit_code
    except MemlabError as error:
        show_error(error)
        status = error.exit_code
    finally:
        sys.stderr.flush()
        os._exit(status)


def _wait_until_it_runs(child: int, name: str, log: str) -> int:
    from memlab.cli import running
    from memlab.errors import HostError

    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            say(f"{name} has ended with status {code}; its log: {log}")
            return code
        try:
            if running.tell({"verb": "status"})["phase"] == "running":
                say(f"{name} runs; see: memlab status, memlab down")
                return 0
        except HostError:
            pass  # its control socket is not there yet
        time.sleep(_TICK)
    raise MemlabError(f"{name} is not ready after {READY_SECONDS:.0f} s", hint=f"its log: {log}")
