"""The lab file that is meant when none is named."""

from __future__ import annotations

from pathlib import Path

from memlab.errors import UsageError


def the_one_here() -> Path:
    """The one `*.memlab.yaml` of the current folder; UsageError lists them if there are more."""
    found = sorted(Path.cwd().glob("*.memlab.yaml"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise UsageError("there is more than one lab file here", hint=f"name one of: {names}")
    raise UsageError(
        "there is no *.memlab.yaml here",
        hint="run a bundled lab: memlab up quickstart; or write one: memlab init",
    )
