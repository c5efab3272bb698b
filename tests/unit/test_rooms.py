"""Imports run one way: LINE and NARROW below are the picture, and what a policy may know."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "memlab"
LINE = (
    *("errors units", "kernel", "guest", "vm", "record", "control", "lab"),
    *("study simulate exercises", "box", "cli"),
)
"""Each room may import those before it, and itself."""
NARROW = {
    "report": {"record", "control", "units", "errors", "report"},
    "live": {"record", "control", "units", "errors", "live", "report"},
}
POLICY_MAY = {
    *("memlab.control.policy", "memlab.control.settings", "memlab.control.entitlement"),
    "memlab.control.paces",
    *(f"memlab.control.esx_{part}" for part in ("profiles", "tick", "balloon", "push")),
    *(f"memlab.control.best_{part}" for part in ("settings", "sharing", "room")),
    "memlab.record.derive",
}
SHARED_BY_POLICIES = {
    "policies",
    "view",
    "actuate",
    "guestmemory",
    "guarded",
    "sound",
    "userpolicy",
    "replay",
    "__init__",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return {name for name in found if name.split(".")[0] == "memlab"}


def allowed(room: str) -> set[str]:
    if room in NARROW:
        return NARROW[room]
    before = " ".join(LINE[: [room in step.split() for step in LINE].index(True) + 1]).split()
    above = ("lab", "study", "simulate", "exercises", "box", "cli")
    return {*before, *(NARROW if room in above else ())}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    for name in imports_of(path):
        parts = name.split(".")
        assert len(parts) == 1 or parts[1] in allowed(room), f"{room} may not import {name}"


def test_a_policy_knows_nothing_but_its_contract() -> None:
    for path in (PACKAGE / "control").glob("*.py"):
        if path.stem not in SHARED_BY_POLICIES:
            assert imports_of(path) <= {*POLICY_MAY, "memlab.units"}, path


@pytest.mark.parametrize("module", ["memlab.kernel.guard", "memlab.record.sampler"])
def test_what_runs_beside_the_lab_is_standard_library_only(module: str) -> None:
    heavy = "click pydantic ruamel rich psutil numpy"
    script = (
        f"import sys, {module}; "
        f"print(*[m for m in {heavy.split()} if m in sys.modules])"
    )  # fmt: skip
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in modules()}
    assert not {str(path): lines for path, lines in lengths.items() if lines > 400}
