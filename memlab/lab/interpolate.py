"""`${VAR}` in the values of a lab file, after reading, so that lines stay true.

`${VAR}` must be set; `${VAR:-text}` has a default; `${VAR:?text}` says what is missing; `$$` is a
dollar. Keys are left alone, and so is a `$` before anything else. What an unquoted value becomes is
read again: `count: ${N}` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from memlab.errors import Fault
from memlab.lab.yamlfile import Document, Path, Plain, scalar

_PLACE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<inner>[^{}]*)\}|(?P<open>\{))")
_INNER = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<how>:[-?])(?P<rest>.*))?", re.DOTALL)
MAX_LENGTH = 65536


class _UnsetError(Exception):
    def __init__(self, message: str, fix: str) -> None:
        self.message, self.fix = message, fix


def interpolate(document: Document, environ: Mapping[str, str]) -> None:
    """Fill in the document's tree in place; what cannot be filled in becomes a fault."""
    document.tree = _walk(document.tree, (), document, environ)


def _walk(value: Any, path: Path, document: Document, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _walk(v, (*path, k), document, environ) for k, v in value.items()}
    if isinstance(value, list):
        return [_walk(v, (*path, i), document, environ) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        filled = _PLACE.sub(lambda match: _fill(match, environ), value) if "$" in value else value
        if len(filled) > MAX_LENGTH:
            raise _UnsetError("the value becomes longer than 64 KiB", "use shorter variables")
        # Plain text is what it looks like now; everything leaves as str, not as our subclass.
        again = isinstance(value, Plain) and filled != value
        filled = scalar(filled) if again else str(filled)
        return str(filled) if isinstance(filled, Plain) else filled
    except _UnsetError as error:
        message, fix = error.message, error.fix
    except ValueError as error:
        message, fix = (
            f"{value} becomes a value that is refused: {error}",
            "set it to a plain number",
        )
    place = document.place(path)
    dotted = ".".join(map(str, path))
    document.faults.append(Fault("ML006", message, fix, place.line, place.column, dotted))
    return value


def _fill(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match["dollar"]:
        return "$"
    inner = _INNER.fullmatch(match["inner"] or "")
    if inner is None:
        message = "a ${ is not closed" if match["open"] else f"{match[0]} is no variable"
        raise _UnsetError(message, "write ${NAME}, ${NAME:-default}, or $$ for a dollar")
    name, how, rest = inner["name"], inner["how"], inner["rest"]
    found = environ.get(name)
    if found or (how is None and found is not None):
        return found
    if how == ":-":
        return str(rest)
    asked = f": {rest}" if how == ":?" and rest else ""
    fix = f"set it, as in {name}=… memlab …, or write ${{{name}:-default}}"
    raise _UnsetError(f"the variable {name} is not set{asked}", fix)
