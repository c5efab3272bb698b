"""Exports: the same numbers in other files."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from memlab.cli.export import command
from memlab.errors import MemlabError, UsageError
from memlab.record.columns import COLUMNS, Entity
from memlab.record.derive import Derived
from memlab.record.export import Format, export
from memlab.record.sample import TABLES
from memlab.units import MIB
from tests import recordings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Derived:
    return Derived.open(recordings.build(tmp_path_factory.mktemp("run")))


def test_csv_has_every_column_and_leaves_absent_fields_empty(run: Derived, tmp_path: Path) -> None:
    made = export(run, tmp_path / "out", Format.CSV)
    seen = set()
    for path in made:
        with path.open() as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        seen |= set(reader.fieldnames or ())
        assert rows
        if path.stem == "vm_medium":
            assert {row["compressed"] for row in rows} == {""}
        if path.stem == "vm_deep":
            last = [row for row in rows if row["vm"] == "vm-1"][-1]
            assert float(last["shared"]) == 64 * MIB
    assert {name for _, name in COLUMNS} <= seen
    assert {path.stem for path in made} >= {"events", "decisions", "host_fast", "lab_deep"}


def test_jsonl_leaves_absent_keys_out(run: Derived, tmp_path: Path) -> None:
    export(run, tmp_path, Format.JSONL)
    rows = [json.loads(line) for line in (tmp_path / "vm_medium.jsonl").read_text().splitlines()]
    assert all("pool" not in row and "swapped" in row for row in rows)
    assert "p99" not in rows[0] and "p99" in rows[1]


def test_parquet_has_nulls_and_types(run: Derived, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'memlab[parquet]'")
    export(run, tmp_path, Format.PARQUET)
    table = parquet.read_table(tmp_path / "vm_fast.parquet")
    expected = run.series(Entity.VM, "operations", "vm-1").values
    operations = table.column("operations").to_pylist()
    assert tuple(operations[: len(expected)]) == expected and expected[0] is None


def test_raw_tables_are_the_recording_s(run: Derived, tmp_path: Path) -> None:
    export(run, tmp_path, Format.CSV, raw=True)
    for table in TABLES:
        with (tmp_path / f"{table.name}.csv").open() as file:
            assert tuple(next(csv.reader(file))) == (*table.keys, *table.names)
    with (tmp_path / "sample.csv").open() as file:
        stored = run.recording.rows("SELECT count(*) FROM sample")[0][0]
        assert sum(1 for _ in file) == stored + 1


def test_without_pyarrow_one_sentence_says_what_to_do(
    run: Derived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="pyarrow") as refused:
        export(run, tmp_path, Format.PARQUET)
    assert "pip install" in refused.value.hint


def test_a_place_that_cannot_be_written_is_one_sentence(run: Derived, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MemlabError, match="cannot write"):
        export(run, tmp_path / "file" / "below", Format.CSV)


def test_the_command_writes_one_file_or_a_directory(run: Derived, tmp_path: Path) -> None:
    source = str(run.recording.path)
    one = CliRunner().invoke(command, [source, "-o", str(tmp_path / "x.jsonl")])
    assert one.exit_code == 0, one.output
    assert (tmp_path / "x.jsonl").is_file()
    all_of_it = CliRunner().invoke(command, [source, "-o", str(tmp_path / "all")])
    assert all_of_it.exit_code == 0
    assert (tmp_path / "all" / "lab_fast.csv").is_file()
