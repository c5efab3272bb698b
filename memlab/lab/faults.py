"""From pydantic's errors to faults with a place, the nearest valid key and a fix."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from memlab.errors import Fault
from memlab.lab.model import Path, keys_at
from memlab.lab.yamlfile import Document

Error = Mapping[str, Any]
"""One of `ValidationError.errors()`."""

_OURS: Final = {
    "size": "ML013",
    "duration": "ML014",
    "percent": "ML015",
    "switch": "ML016",
    "range": "ML018",
    "ratio": "ML018",
    "name": "ML019",
    "either": "ML022",
    "content": "ML023",
}
_WANTED: Final = {
    "model": ("a map", "write it as `key: value` lines below it"),
    "dict": ("a map", "write it as `key: value` lines below it"),
    "tuple": ("a list", "write it as a list, such as [a, b]"),
    "string": ("text", 'put it in quotes, as in "12"'),
    "int": ("a whole number", "write a whole number, without a unit"),
    "float": ("a number", "write a number"),
    "bool": ("on or off", "write on or off"),
}


def path_of(error: Error) -> Path:
    """The path in the file that an error is about."""
    return tuple(part for part in error["loc"] if part != "[key]")


def fault_of(error: Error, document: Document) -> Fault:
    """The fault that `error` is."""
    kind, path = str(error["type"]), path_of(error)
    about_key = kind in ("extra_forbidden", "missing") or "[key]" in error["loc"]
    code, message, fix = _words(kind, error, path)
    place = document.place(path, key=about_key)
    dotted = ".".join(map(str, path))
    where = f"{dotted}: " if dotted and not about_key else ""
    return Fault(code, f"{where}{message}", fix, place.line, place.column, dotted)


def nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """`write X`, the nearest known word, or what there is."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"write {near[0]}"
    return f"there is: {', '.join(known)}" if known else "remove it"


def _words(kind: str, error: Error, path: Path) -> tuple[str, str, str]:
    if kind in _OURS:
        context = error["ctx"]
        return _OURS[kind], str(context["message"]), str(context["fix"])
    if kind in _SPECIAL:
        return _SPECIAL[kind](error, path)
    family = kind.partition("_")[0]
    if family in _WANTED and (
        kind.endswith(("_type", "_parsing", "_from_float", "_attributes_type"))
    ):
        wanted, fix = _WANTED[family]
        return "ML012", f"{wanted} is wanted here, not {_shown(error['input'])}", fix
    if kind in ("int_parsing_size", "finite_number"):
        return "ML021", "the number is too large, or not finite", "write a plain number"
    return "ML012", _sentence(str(error["msg"])), "see `memlab schema`, or docs/lab-file.md"


def _unknown(_error: Error, path: Path) -> tuple[str, str, str]:
    above = ".".join(map(str, path[:-1])) or "the file"
    known = list(keys_at(path[:-1]))
    return "ML010", f"{above} has no key {str(path[-1])[:60]!r}", nearest(str(path[-1]), known)


def _missing(_error: Error, path: Path) -> tuple[str, str, str]:
    above = ".".join(map(str, path[:-1])) or "the file"
    return (
        "ML011",
        f"{above} has no {path[-1]}",
        f"add {path[-1]}: {_EXAMPLES.get(str(path[-1]), '…')}",
    )


def _range(error: Error, _path: Path) -> tuple[str, str, str]:
    context = error["ctx"]
    signs = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    sign, bound = next((sign, context[sign]) for sign in signs if sign in context)
    return "ML018", f"it must be {signs[sign]} {bound:,}", f"write a number {signs[sign]} {bound:,}"


def _length(error: Error, _path: Path) -> tuple[str, str, str]:
    context = error["ctx"]
    if "min_length" in context:
        return "ML020", "it is empty", "write at least one"
    most = context.get("max_length", 0)
    return "ML020", f"it is too long: {most:,} at most", "make it shorter"


def _choice(error: Error, _path: Path) -> tuple[str, str, str]:
    expected = str(error["ctx"].get("expected", ""))
    known = re.findall(r"'([^']*)'", expected)
    return "ML017", f"it must be {expected}", nearest(str(error["input"]), known)


_EXAMPLES: Final = {
    "name": "a-name",
    "memory": "128MiB",
    "size": "256MiB",
    "host": "and below it memory: 512MiB",
    "vms": "and below it the VMs",
    "that": '"max(lab.saved_sharing) >= 32MiB"',
    "from": "10s",
    "until": "40s",
    "command": "[program, argument]",
    "vm": "the name of a VM",
}
_SPECIAL: Final[Mapping[str, Callable[[Error, Path], tuple[str, str, str]]]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    **dict.fromkeys(("greater_than_equal", "greater_than", "less_than_equal", "less_than"), _range),
    **dict.fromkeys(("too_short", "too_long", "string_too_short", "string_too_long"), _length),
    **dict.fromkeys(("enum", "literal_error"), _choice),
}


def _shown(value: Any) -> str:
    names = {dict: "a map", list: "a list", type(None): "nothing"}
    return names.get(type(value)) or repr(value)[:60]


def _sentence(text: str) -> str:
    return text[:1].lower() + text[1:200]
