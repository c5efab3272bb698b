"""Named points at which a test kills the process, as a crash or a power cut would.

`MEMLAB_FAIL=knob-before-write:3` ends the process by SIGKILL the third time it passes the point
`knob-before-write`. Without the variable a point is a call of an empty function. The guard has a
variable of its own, `MEMLAB_FAIL_GUARD`, so that a test chooses which of the two dies.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "MEMLAB_FAIL"
GUARD_VARIABLE: Final = "MEMLAB_FAIL_GUARD"

_name, _, _count = os.environ.get(VARIABLE, "").partition(":")
_left = int(_count or "1") if _name else 0

if _name:

    def failpoint(name: str) -> None:
        """Die here if it is this point's turn."""
        global _left  # noqa: PLW0603  a process has one plan
        if name == _name:
            _left -= 1
            if _left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

else:

    def failpoint(name: str) -> None:
        """Nothing: no test asked for a death."""
