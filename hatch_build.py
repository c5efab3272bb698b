"""Build hook: compiles the guest agent and puts it into the wheel, tagged for its machine.

`MEMLAB_AGENT_MACHINE=aarch64` builds a wheel for another machine (with the ziglang wheel).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def _load(path: Path) -> ModuleType:
    """memlab/guest/build.py alone: memlab's own dependencies are not there during a build."""
    spec = importlib.util.spec_from_file_location("memlab_agent_build", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class AgentBuildHook(BuildHookInterface[Any]):
    """A wheel holds the static agent; an editable install gets it built in the tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the agent. A build without a compiler ends here, with the repair."""
        if self.target_name != "wheel":
            return
        machine = os.environ.get("MEMLAB_AGENT_MACHINE", platform.machine())
        binary = Path(self.root) / "memlab/_bin/memlab-agent"
        build = _load(Path(self.root) / "memlab/guest/build.py")
        if version != "editable" and machine != platform.machine():
            binary = Path(self.directory) / f"memlab-agent-{machine}"
        try:
            build.compile_agent(binary, machine=machine)
        except build.BuildError as error:
            # pip shows this below a page of its own; scripts/environment shows this alone.
            sys.exit("memlab: " + "; ".join(str(error).splitlines()))
        build_data["pure_python"] = False
        # A static binary asks nothing of the C library, and linux_* is what pip accepts for a
        # wheel that was built on the spot.
        build_data["tag"] = f"py3-none-linux_{machine}"
        if version != "editable":
            build_data["force_include"][str(binary)] = "memlab/_bin/memlab-agent"

    def clean(self, versions: list[str]) -> None:
        """Remove what was compiled."""
        (Path(self.root) / "memlab/_bin/memlab-agent").unlink(missing_ok=True)
