"""`--set a.b=c`: the same paths as in the file, put into its tree before it is checked.

`vms.*.memory=64MiB` sets it in every entry. A value is read as YAML reads it, so that lists and
maps (`vms.web.command=[sleep, 9]`) can be given too. What is wrong is a fault like any other; it
has no line, and says which `--set` it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_origin

from memlab.errors import Fault
from memlab.lab.faults import nearest
from memlab.lab.model import Path, keys_at, short_key, type_at
from memlab.lab.yamlfile import NOWHERE, Document, Plain, read


def override(document: Document, sets: Sequence[str]) -> dict[Path, str]:
    """Put each `path=value` into the document's tree; which path came from which `--set`."""
    origins: dict[Path, str] = {}
    for text in sets:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            fix = "write --set path=value, such as --set host.memory=512MiB"
            document.faults.append(Fault("ML040", f"--set {text}: no path=value", fix))
            continue
        found = _read_value(value, text, document)
        if found is None:
            continue
        for path in _paths(tuple(name.strip().split(".")), document.tree):
            fault = _put(document, path, found.tree)
            if fault is not None:
                message = f"--set {text}: {fault.message}"
                document.faults.append(Fault(fault.code, message, fault.fix, path=fault.path))
                break
            origins[path] = text
    return origins


def _read_value(value: str, text: str, document: Document) -> Document | None:
    found = read(value)
    for fault in found.faults:
        document.faults.append(Fault(fault.code, f"--set {text}: {fault.message}", fault.fix))
    if isinstance(found.tree, Plain):
        found.tree = str(found.tree)
    return None if found.faults else found


def _paths(path: tuple[str, ...], tree: Any) -> list[Path]:
    """`path` with `*` for every entry of `vms`."""
    entries = tree.get("vms") if isinstance(tree, dict) else None
    if path[:2] == ("vms", "*") and isinstance(entries, dict):
        return [("vms", name, *path[2:]) for name in entries]
    return [tuple(int(part) if part.isdigit() else part for part in path)]


def _put(document: Document, path: Path, value: Any) -> Fault | None:
    """Set `path` in the tree, making maps on the way; the fault if it cannot stand there."""
    at = document.tree
    for depth, part in enumerate(path):
        above = path[:depth]
        last = depth == len(path) - 1
        fault = _missing(at, part, above)
        if fault is not None:
            return fault
        if last:
            at[part] = value
        else:
            if isinstance(at, dict):
                key = short_key(path[: depth + 1])
                inner = at.get(part)
                if key and inner is not None and not isinstance(inner, dict | list):
                    at[part] = {key: inner}
                elif inner is None:
                    at[part] = [] if get_origin(type_at(path[: depth + 1])) is tuple else {}
            at = at[part]
    for known in [known for known in document.values if known[: len(path)] == path]:
        document.values[known] = NOWHERE
        document.keys[known] = NOWHERE
    document.values[path] = document.keys[path] = NOWHERE
    return None


def _missing(at: Any, part: str | int, above: Path) -> Fault | None:
    """Why `part` cannot be set below `above`, or None."""
    dotted = ".".join(map(str, above)) or "the file"
    if isinstance(at, list):
        if isinstance(part, int) and part < len(at):
            return None
        fix = f"write 0 to {len(at) - 1}" if at else "write the whole list"
        return Fault("ML040", f"{dotted} is a list without {part}", fix, path=dotted)
    if not isinstance(at, dict):
        return Fault("ML040", f"{dotted} has no parts", f"set {dotted} itself", path=dotted)
    if part in at:
        return None
    if above in (("vms",), ("groups",)):
        code = "ML041" if above == ("vms",) else "ML030"
        return Fault(code, f"{dotted} has no {part!r}", nearest(str(part), list(at)), path=dotted)
    if type_at((*above, part)) is None and not str(part).startswith("x-"):
        if not keys_at(above) and type_at(above) is not None:
            return Fault("ML040", f"{dotted} has no parts", f"set {dotted} itself", path=dotted)
        known = list(keys_at(above))
        return Fault(
            "ML010", f"{dotted} has no key {part!r}", nearest(str(part), known), path=dotted
        )
    return None
