"""Which code made a run: memlab's version does not change while somebody works on it."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

import memlab

_MAKERS: Final = ("control", "guest", "kernel", "lab", "record", "vm", "_bin")
"""The rooms whose code a run depends on; those that only show it are none."""


@cache
def code() -> str:
    """Twelve digits of the code that makes runs, the guest agent included."""
    root, found = Path(memlab.__file__).parent, hashlib.sha256()
    for path in sorted(path for room in _MAKERS for path in root.joinpath(room).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def version() -> str:
    """memlab's, as in a run's manifest."""
    return metadata.version("memlab")
