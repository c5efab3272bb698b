"""The tables of docs/lab-file.md, made from the model, the codes and the settable paths.

`MEMLAB_WRITE_DOCS=1 scripts/test tests/unit/test_reference.py` writes them into the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args, get_origin

from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo

from memlab.lab.codes import CODES
from memlab.lab.model import leaves, plain
from memlab.lab.settable import settable
from memlab.lab.values import Amount
from memlab.units import format_size

_WORDS = {int: "number", float: "number", str: "text", bool: "switch"}


def keys_table() -> str:
    """Every key of the file: its path, how its value is written, its default, its meaning."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for path, field in leaves():
        if not path.startswith(("defaults.", "groups.NAME.")):
            rows.append(
                f"| `{path}` | {_written(field)} | {_default(field)} | {field.description} |"
            )
    return "\n".join(rows)


def codes_table() -> str:
    """Every code of a fault."""
    rows = ["| code | what is wrong |", "|---|---|"]
    return "\n".join([*rows, *(f"| {code} | {meaning} |" for code, meaning in CODES.items())])


def settable_table() -> str:
    """The paths that can be set while the lab runs."""
    rows = ["| path | value | what it does |", "|---|---|---|"]
    live = [row for row in settable() if row.live]
    return "\n".join([*rows, *(f"| `{r.path}` | {r.written} | {r.meaning} |" for r in live)])


def fill_in(page: str) -> str:
    """The page with its three tables as they are now."""
    tables = {"keys": keys_table(), "codes": codes_table(), "settable": settable_table()}
    for name, table in tables.items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _old, end, after = rest.partition(f"<!-- end of {name} -->")
        page = f"{before}{begin}{table}\n{end}{after}"
    return page


def _written(field: FieldInfo) -> str:
    """How a value is written, in one or two words."""
    titles = list(_titles(field))
    if titles:
        return titles[0]
    kind = plain(field.annotation)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    if get_origin(kind) is dict:
        return "map"
    if get_origin(kind) is tuple:
        return "list"
    return _WORDS.get(kind, "text")


def _titles(field: FieldInfo) -> Iterator[str]:
    """The titles that the types of values.py carry."""
    nested: list[Any] = [*field.metadata, *_annotations(field.annotation)]
    for mark in nested:
        if isinstance(mark, WithJsonSchema) and mark.json_schema:
            yield str(mark.json_schema["title"])


def _annotations(kind: Any) -> Iterator[Any]:
    if get_origin(kind) in (dict, tuple):
        return
    yield from getattr(kind, "__metadata__", ())
    for part in get_args(kind):
        yield from _annotations(part)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be there"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}) or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Amount):
        return f"{value.fraction:.0%}" if value.fraction is not None else _size(value.size or 0)
    written = _written(field)
    if "percent" in written:
        return f"{value:.0%}"
    if written.startswith(("duration", "period")):
        return f"{value:g}s" if value >= 1 or not value else f"{value * 1000:g}ms"
    if written.startswith("size"):
        return _size(value)
    return f"`{value.value}`" if isinstance(value, Enum) else f"{value}"


def _size(value: int) -> str:
    return format_size(value, digits=0).replace(" ", "") if value else "0B"
