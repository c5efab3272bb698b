"""The declaration of raw columns, and the tables and pages that come from it."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from memlab.guest.wire import BOARD_FIELDS
from memlab.record import formulas, raw, terms
from memlab.record.columns import Entity, Tier
from memlab.record.documents import made
from memlab.record.sample import FIXED, LAB_FAST, TABLES, VM_FAST, VM_MEDIUM

ROOT = Path(__file__).parents[2]


def test_every_table_can_be_made_and_filled() -> None:
    with sqlite3.connect(":memory:") as connection:
        for ddl in FIXED.values():
            connection.execute(ddl)
        for table in TABLES:
            connection.execute(table.ddl)
            width = len(table.keys) + len(table.names)
            connection.execute(table.insert, [1] * width)
            assert connection.execute(f"SELECT * FROM {table.name}").fetchall() == [(1,) * width]
    connection.close()


def test_no_raw_column_is_declared_twice() -> None:
    for table in TABLES:
        assert len(set(table.names)) == len(table.names)
        for column in table.columns:
            assert column.unit in {"bytes", "pages", "count", "us", "ns"}
            assert column.source


def test_every_field_of_the_board_is_recorded() -> None:
    assert {f"guest_{name}" for name in BOARD_FIELDS} <= {*VM_FAST.names, *VM_MEDIUM.names}


def test_a_row_has_the_order_of_its_table_and_what_is_missing_is_absent() -> None:
    row = LAB_FAST.row({"budget": 5, "vms": 1})
    assert row[LAB_FAST.names.index("budget")] == 5
    assert row[LAB_FAST.names.index("limit_bytes")] is None
    assert VM_FAST.entity is Entity.VM and VM_FAST.tier is Tier.FAST


def test_formulas_name_only_columns_that_are_recorded() -> None:
    recorded = {f"{table.name}.{name}" for table in TABLES for name in table.names}
    for module in (formulas, raw, terms):
        source = Path(module.__file__ or "").read_text()
        named = set(re.findall(r'"((?:host|lab|vm)_(?:fast|medium|deep)\.\w+)"', source))
        assert named <= recorded


def test_the_documents_are_those_of_this_code() -> None:
    """If it fails: python -m memlab.record.documents"""
    for name, tables in made().items():
        assert tables in (ROOT / "docs" / f"{name}.md").read_text()
