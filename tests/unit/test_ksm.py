"""KSM's counters and knobs, on a captured tree."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memlab.errors import HostError
from memlab.kernel import ksm
from memlab.kernel.files import Roots
from tests.captured import HYBRID, PID


def copy(tmp_path: Path) -> Roots:
    shutil.copytree(HYBRID.ksm, tmp_path / "sys/kernel/mm/ksm")
    (tmp_path / "proc").mkdir()
    return Roots(proc=tmp_path / "proc", sys=tmp_path / "sys")


def test_all_24_files_are_read() -> None:
    found = ksm.read_counters(HYBRID)
    assert found and len(ksm.FILES) == 24
    assert None not in [getattr(found, name) for name in ksm.FILES]
    assert found.advisor_mode == "none"
    assert found.pages_shared is not None and found.pages_sharing is not None
    assert found.saved == found.pages_sharing * 4096


def test_no_ksm_is_absent(tmp_path: Path) -> None:
    assert ksm.read_counters(Roots(sys=tmp_path)) is None
    assert not ksm.present(Roots(sys=tmp_path))
    assert ksm.knobs(Roots(sys=tmp_path)) == ()


def test_an_older_kernel_lacks_files_and_they_are_none(tmp_path: Path) -> None:
    roots = copy(tmp_path)
    for name in ("general_profit", "ksm_zero_pages", "advisor_mode", "smart_scan"):
        (roots.ksm / name).unlink()
    found = ksm.read_counters(roots)
    assert found and found.general_profit is None and found.advisor_mode is None
    assert found.saved is not None
    assert "smart_scan" not in ksm.knobs(roots) and "run" in ksm.knobs(roots)


def test_profit_can_be_negative() -> None:
    found = ksm.parse_counters({"general_profit": b"-65536\n", "pages_shared": None, "x": b"1"})
    assert found == ksm.KsmCounters(general_profit=-65536)


def test_a_process_is_parsed_by_name_in_both_forms() -> None:
    found = ksm.read_process(PID, HYBRID)
    assert found == ksm.ProcessKsm(
        rmap_items=1000,
        zero_pages=0,
        merging_pages=1000,
        process_profit=4032000,
        merge_any=False,
        mergeable=True,
    )
    assert ksm.parse_process(b"ksm_rmap_items 7\nksm_new 1\n") == ksm.ProcessKsm(rmap_items=7)
    assert ksm.read_process(1, HYBRID) is None


def test_others_that_are_scanned_are_named_by_how_much(tmp_path: Path) -> None:
    for pid, name, items in ((7, "small", 3), (8, "large", 256), (9, "ours", 999), (10, "none", 0)):
        place = tmp_path / str(pid)
        place.mkdir()
        (place / "comm").write_text(f"{name}\n")
        (place / "ksm_stat").write_text(f"ksm_rmap_items {items}\n")
    (tmp_path / "11").mkdir()  # it has ended meanwhile
    found = ksm.scanned_beside({9}, Roots(proc=tmp_path))
    assert found == (ksm.Scanned(8, "large", 256 * 4096), ksm.Scanned(7, "small", 3 * 4096))


def test_before_6_4_merging_pages_have_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/ksm_stat").write_text("ksm_rmap_items 9\n")
    (tmp_path / "7/ksm_merging_pages").write_text("5\n")
    found = ksm.read_process(7, Roots(proc=tmp_path))
    assert found == ksm.ProcessKsm(rmap_items=9, merging_pages=5)


def test_a_kernel_thread_has_no_merging_pages(tmp_path: Path) -> None:
    (tmp_path / "2").mkdir()
    (tmp_path / "2/ksm_merging_pages").write_text("")
    assert ksm.ksm_merging_pages(2, Roots(proc=tmp_path)) is None
    assert ksm.ksm_merging_pages(PID, HYBRID) == 1000


def test_pruning_gives_its_knobs_back_when_it_fails(tmp_path: Path) -> None:
    roots = copy(tmp_path)
    for name, value in {"run": "0", "pages_to_scan": "100", "sleep_millisecs": "20"}.items():
        (roots.ksm / name).write_text(value)
    (roots.ksm / "pages_shared").write_text("9")
    assert not ksm.prune(roots, until_pages_shared=8, timeout=0.05)
    assert (roots.ksm / "run").read_text() == "0"
    assert (roots.ksm / "pages_to_scan").read_text().startswith("100")


def test_nothing_is_turned_when_nothing_is_left(tmp_path: Path) -> None:
    roots = copy(tmp_path)
    (roots.ksm / "run").chmod(0o400)
    (roots.ksm / "pages_shared").write_text("3")
    assert ksm.prune(roots, until_pages_shared=3)


def test_merges_of_others_are_never_undone() -> None:
    with pytest.raises(HostError, match="merged before the lab"):
        ksm.unmerge(HYBRID, shared_before_lab=4)
