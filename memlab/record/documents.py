"""The tables of docs/recording.md and docs/measuring.md, made from the code that they describe,
and of docs/kernel-support.md, made from the manifests of real runs.

`python -m memlab.record.documents` puts them between the marks in those files; a test holds the
files against the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Final

from memlab.record.columns import COLUMNS, Entity
from memlab.record.sample import FIXED, TABLES, RawColumn
from memlab.record.support import support_tables

_DOCS: Final = Path(__file__).parents[2] / "docs"
_BEGIN: Final = "<!-- made by python -m memlab.record.documents -->\n"
_END: Final = "<!-- end -->\n"


def recording_tables() -> str:
    """Every table of a recording: how it is created, and its raw columns."""
    parts = ["### Tables of every recording\n", "```sql", *FIXED.values(), "```\n"]
    for table in TABLES:
        parts.append(f"### `{table.name}`: {', '.join(table.keys)}, and\n")
        rows = [
            (_names(columns), unit, source, needs)
            for (unit, source, needs), columns in groupby(table.columns, _kind)
        ]
        parts.append(_table(("columns", "unit", "read from", "needs"), rows))
    return "\n".join(parts)


def _kind(column: RawColumn) -> tuple[str, str, str]:
    # A field of the board is read from the field of its own name.
    source = "board" if column.source.startswith("board ") else column.source
    return column.unit, source, column.needs


def _names(columns: Iterable[RawColumn]) -> str:
    return ", ".join(f"`{column.name}`" for column in columns)


def measuring_tables() -> str:
    """The derived columns of host, lab and VM."""
    parts = []
    for entity in (Entity.VM, Entity.LAB, Entity.HOST):
        parts.append(f"### Columns of {'a VM' if entity is Entity.VM else f'the {entity}'}\n")
        rows = [
            (f"`{column.name}`", column.unit, column.tier, column.meaning, column.source)
            for (owner, _), column in COLUMNS.items()
            if owner is entity
        ]
        parts.append(_table(("column", "unit", "tier", "meaning", "source"), rows))
    return "\n".join(parts)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def replace(text: str, tables: str) -> str:
    """`text` with `tables` between its marks."""
    return re.sub(
        f"(?s){re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: _BEGIN + tables + _END, text
    )


def made() -> dict[str, str]:
    """The tables of each document, by its name."""
    return {
        "recording": recording_tables(),
        "measuring": measuring_tables(),
        "kernel-support": support_tables(),
    }


def main() -> None:
    """Write the tables into the documents."""
    for name, tables in made().items():
        path = _DOCS / f"{name}.md"
        path.write_text(replace(path.read_text(), tables))


if __name__ == "__main__":
    main()
