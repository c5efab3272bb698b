"""A lab file on its way through the checks: what it says, and what is wrong with it already."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

from memlab.errors import Fault
from memlab.lab.model import Path
from memlab.lab.spec import Lab, LabFile
from memlab.lab.yamlfile import Document


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that fits the model, what it comes to, and what is wrong with it already."""

    file: LabFile
    lab: Lab
    document: Document
    dirty: tuple[Path, ...]
    folder: pathlib.Path = pathlib.Path()

    def clean(self, *path: str | int) -> bool:
        """Whether nothing at, above or below `path` is at fault."""
        return not any(
            bad[: len(path)] == path[: len(bad)] for bad in self.dirty if bad or not path
        )

    @property
    def names_known(self) -> bool:
        """Whether it is certain which VMs there are."""
        return not any(
            bad[:1] == ("vms",) and (len(bad) <= 2 or bad[2] in ("count", "group"))
            for bad in self.dirty
        )

    def fault(self, code: str, path: Path, message: str, fix: str, *, key: bool = False) -> Fault:
        """A fault at `path`."""
        place = self.document.place(path, key=key)
        dotted = ".".join(map(str, path))
        return Fault(code, message, fix, place.line, place.column, dotted)
