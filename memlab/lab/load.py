"""From the text of a lab file to a `Lab`, or to every fault of the text at once.

Reading, filling in `${…}`, `--set`, the model, the merge of defaults and groups, and the checks
across the file are all done even when an earlier one has found faults, on what is left of the tree
without them; only a text that is not YAML ends at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from memlab.errors import Fault, LabFileError, UsageError
from memlab.lab import expand
from memlab.lab.checked import Checked
from memlab.lab.checks import check_all
from memlab.lab.faults import Error, fault_of, path_of
from memlab.lab.interpolate import interpolate
from memlab.lab.model import is_required
from memlab.lab.overrides import override
from memlab.lab.spec import MAX_VMS, Lab, LabFile, VmSpec
from memlab.lab.yamlfile import MAX_BYTES, Document, read
from memlab.lab.yamlfile import Path as TreePath

_ROUNDS: Final = 6
_STAND_INS: Final[Mapping[str, Any]] = {
    "name": "lab",
    "host": {"memory": "64MiB", "swap": {"size": "64MiB"}},
    "memory": "64MiB",
    "size": "64MiB",
    "vms": {"stand-in": {"memory": "64MiB"}},
    "from": "0s",
    "until": "1s",
    "that": "1 < 2",
    "vm": "*",
    "command": ["true"],
}
"""What a missing or refused key is taken to be, so that the rest of the file can be looked at."""
_ITEMS: Final[Mapping[str, Any]] = {
    "timeline": {"at": "0s", "mark": "-"},
    "expect": {"name": "-", "that": "1 < 2"},
    "needs": "root",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A lab, the text it was written in, and that text's name.

    `tree` is the file after `${…}` and `--set`, as plain values: what the recording keeps.
    `variables` are those of the environment that the file has used, and their values.
    `time_scale` is what the lab's times have been multiplied by; see `stretch`. `notes` are the
    keys beginning with `x-`, without that; the recording keeps them.
    """

    lab: Lab
    source: str
    name: str
    tree: Mapping[str, Any]
    document: Document
    variables: Mapping[str, str]
    time_scale: float = 1.0
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where paths of the file begin: its own folder, or for stdin the current one."""
        return Path(self.name).parent if self.name != "stdin" else Path()


def load(
    source: Path | str, *, sets: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> Loaded:
    """The lab in the file `source`, or in what stdin has for `-`.

    `sets` are `a.b=c`, put over the file; `environ` fills in `${…}`. Raises LabFileError with all
    faults, UsageError if the file cannot be read.
    """
    name = "stdin" if str(source) == "-" else str(source)
    data = sys.stdin.buffer.read(MAX_BYTES + 1) if name == "stdin" else _bytes(Path(source))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        fault = Fault("ML005", "the file is not UTF-8", "save it as UTF-8", line, column)
        shown = data.decode("utf-8", errors="replace")
        raise LabFileError(name, [fault], source=shown) from None
    return loads(text, name=name, sets=sets, environ=environ)


def loads(
    text: str,
    *,
    name: str = "lab",
    sets: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """The lab in `text`, as `load` does."""
    document, used = read(text), _Used(environ)
    notes = _notes(document.tree)
    folder = Path(name).parent if name != "stdin" else Path()
    lab, faults = build(document, sets=sets, environ=used, folder=folder)
    if lab is None or faults:
        raise LabFileError(name, faults, source=text)
    return Loaded(lab, text, name, document.tree, document, used.found, notes=notes)


def _notes(tree: Any) -> dict[str, Any]:
    """What the file says under `x-…`: nothing to memlab, but kept with the run."""
    top = tree.items() if isinstance(tree, dict) else ()
    return {key[2:]: value for key, value in top if isinstance(key, str) and key[:2] == "x-"}


class _Used(Mapping[str, str]):
    """An environment that remembers what was found in it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.found: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        self.found[name] = self._environ[name]
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def build(
    document: Document,
    *,
    sets: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    folder: Path = Path(),
) -> tuple[Lab | None, list[Fault]]:
    """The lab of a document that has been read, and all its faults in the order of the text.

    Files that it names are looked for from `folder`.
    """
    if document.faults and document.tree is None:
        return None, document.faults
    if not isinstance(document.tree, dict):
        what = "is empty" if document.tree is None else "is not a map"
        fix = "write name: …, host: … and vms: …, or begin with `memlab init`"
        return None, [Fault("ML004", f"the file {what}", fix, 1, 1), *document.faults]
    document.tree = {key: v for key, v in document.tree.items() if not key.startswith("x-")}
    interpolate(document, environ)
    origins = override(document, sets)
    lab, faults = _model(document, folder)
    named = [_origin(fault, origins) for fault in faults]
    return lab, _ordered([*document.faults, *named])


def _model(document: Document, folder: Path) -> tuple[Lab | None, list[Fault]]:
    errors, tree, file = _validated(document.tree)
    faults = [fault_of(error, document) for error in errors]
    dirty = [path_of(error) for error in errors]
    if file is None:
        return None, faults
    lab, more, also_dirty = _expanded(file, tree, document, dirty)
    checked = Checked(file, lab, document, tuple(dirty + also_dirty), folder)
    faults += more
    faults += list(check_all(checked))
    return lab, faults


def _validated(tree: Any) -> tuple[list[Error], Any, LabFile | None]:
    """Errors of the tree, and the model of what is left of it without them."""
    first: list[Error] | None = None
    for _ in range(_ROUNDS):
        try:
            file = LabFile.model_validate(tree)
        except ValidationError as error:
            found: list[Error] = [
                dict(one) for one in error.errors(include_url=False, include_input=True)
            ]
            first = found if first is None else first
            tree = deepcopy(tree)
            for one in found:
                _heal(tree, path_of(one))
        else:
            return first or [], tree, file
    return first or [], tree, None


def _heal(tree: Any, path: TreePath) -> None:
    """Take what is at fault out of the tree; what must be there gets a stand-in."""
    at = tree
    for depth, part in enumerate(path, 1):
        here = path[:depth]
        inside = at[part] if isinstance(at, dict) and part in at else None
        if isinstance(at, list) and isinstance(part, int) and part < len(at):
            inside = at[part]
        if depth < len(path) and isinstance(inside, dict | list):
            at = inside
        elif isinstance(at, dict):
            at.pop(part, None)
            if is_required(here):
                at[part] = deepcopy(_STAND_INS.get(str(part), "1s"))
            return
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            at[part] = deepcopy(_ITEMS.get(str(path[depth - 2]), "-"))
            return


def _expanded(
    file: LabFile, tree: Any, document: Document, known: Sequence[TreePath]
) -> tuple[Lab, list[Fault], list[TreePath]]:
    """The lab with each VM by itself; a VM that does not come out is left out, with its faults."""
    vms: list[VmSpec] = []
    faults: list[Fault] = []
    dirty: list[TreePath] = []
    for entry, merged in expand.entries(tree):
        settings = file.vms[entry]
        merged.pop("count", None)
        if any(path[-1:] == ("memory",) and path[0] != "host" for path in known):
            merged.setdefault("memory", _STAND_INS["memory"])
        try:
            spec = VmSpec.model_validate({**merged, "name": entry, "entry": entry})
        except ValidationError as error:
            dirty.append(("vms", entry))
            for one in error.errors(include_url=False):
                faults.append(fault_of({**one, "loc": ("vms", entry, *one["loc"])}, document))
            continue
        room = MAX_VMS - len(vms)
        named = list(expand.names(entry, settings))[:room]
        vms += [spec.model_copy(update={"name": name}) for name in named]
    fields = {
        name: getattr(file, name) for name in type(file).model_fields if name in Lab.model_fields
    }
    return Lab.model_construct(**{**fields, "vms": tuple(vms)}), faults, dirty


def _origin(fault: Fault, origins: Mapping[TreePath, str]) -> Fault:
    """A fault of something that came from `--set` says so."""
    if fault.line:
        return fault
    for path, text in origins.items():
        dotted = ".".join(map(str, path))
        if fault.path == dotted or fault.path.startswith(f"{dotted}."):
            return Fault(fault.code, f"--set {text}: {fault.message}", fault.fix, path=fault.path)
    return fault


_OF_TEXT: Final = frozenset({"ML001", "ML006", "ML021"})


def _ordered(faults: Sequence[Fault]) -> list[Fault]:
    """By place, each once; what the text itself has wrong silences the model at that place."""
    unique = {_key(fault): fault for fault in faults}.values()
    silent = {(fault.line, fault.column) for fault in unique if fault.code in _OF_TEXT}
    kept = [
        fault
        for fault in unique
        if not fault.line or fault.code in _OF_TEXT or (fault.line, fault.column) not in silent
    ]
    return sorted(kept, key=lambda fault: (fault.line, fault.column))


def _key(fault: Fault) -> tuple[str, str, str, int, int, str]:
    """What makes two faults one."""
    return fault.code, fault.message, fault.fix, fault.line, fault.column, fault.path


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        hint = "see `memlab examples` for the bundled labs"
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint) from None


def bundled() -> tuple[Path, ...]:
    """The lab files that come with memlab, by name."""
    folder = Path(str(resources.files("memlab") / "vmspecs"))
    return tuple(sorted(folder.glob("*.yaml")))


def resolve(name: str) -> Path:
    """The file that `name` means: a path, `-`, or a bundled lab (`quickstart`).

    Raises UsageError with the nearest name.
    """
    path = Path(name)
    if name == "-" or path.exists():
        return path
    return example(path.name.removesuffix(".yaml"))


def example(name: str) -> Path:
    """The bundled lab of that name; UsageError with the nearest one."""
    known = {file.stem: file for file in bundled()}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(known)}"
    raise UsageError(f"no file and no bundled lab is called {name!r}", hint=hint)
