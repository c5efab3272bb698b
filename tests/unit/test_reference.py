from __future__ import annotations

import os
from pathlib import Path

from memlab.lab.model import leaves
from memlab.lab.reference import codes_table, fill_in, keys_table, settable_table

PAGE = Path(__file__).parents[2] / "docs" / "lab-file.md"


def test_the_page_has_the_tables_as_the_model_makes_them() -> None:
    page = PAGE.read_text("utf-8")
    if os.environ.get("MEMLAB_WRITE_DOCS"):
        PAGE.write_text(fill_in(page), "utf-8")
        page = PAGE.read_text("utf-8")
    for table in (keys_table(), codes_table(), settable_table()):
        assert table in page
    assert fill_in(page) == page


def test_every_key_has_a_row_with_a_meaning() -> None:
    table = keys_table()
    for path, field in leaves():
        assert field.description, path
        if not path.startswith(("defaults.", "groups.")):
            assert f"| `{path}` |" in table
    assert "| `host.memory` | size | must be there | The host budget" in table
    assert "| `sample.fast` | period or rate | 250ms |" in table
    assert "| `mechanisms.compression.pool` | size or part | 10% |" in table
    assert "| `vms.NAME.shares` | number | 1000 |" in table
