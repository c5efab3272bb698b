"""Which of the kernel's interfaces are there, and the page that is made from runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memlab.kernel.cgroup import group_at
from memlab.kernel.finding import Feature
from memlab.kernel.interfaces import INTERFACES, census, label
from memlab.record.support import MANIFESTS, load, support_tables
from tests.captured import DOCUMENTED_V2, HYBRID

V2_VM = DOCUMENTED_V2.cgroup / "user.slice/lab.scope/memlab-cap/vm1"


def test_files_lines_and_calls_are_looked_for() -> None:
    group = group_at(HYBRID.cgroup / "memory/nowhere")
    found = census(group, {Feature.PAGEOUT}, HYBRID)
    assert found["KSM counters and knobs"]["lack"] == []
    assert found["compressed pool"] == {"have": ["Zswap", "Zswapped"], "lack": []}
    assert found["pushing memory out"]["have"] == ["pageout"]
    assert found["page tables in runs"] == {"have": [], "lack": ["pagemap-scan"]}
    assert found["memory cgroup v2"]["have"] == []
    assert "pswpin" in found["host flows"]["have"]


def test_a_group_of_v2_has_its_own() -> None:
    found = census(group_at(V2_VM, V2_VM), (), DOCUMENTED_V2)
    assert {"memory.current", "memory.zswap.max"} <= set(found["memory cgroup v2"]["have"])
    assert "memory.peak" in found["memory cgroup v2"]["lack"]
    assert {"zswap", "zswapped"} <= set(found["compressed pages of a group"]["have"])
    assert found["memory cgroup v1"]["have"] == []


def test_no_two_parts_of_an_interface_are_called_alike() -> None:
    for one in INTERFACES:
        assert len({label(part) for part in one.parts}) == len(one.parts), one.name
        assert (Path(__file__).parents[2] / f"memlab/kernel/{one.module.split(',')[0]}.py").exists()
    assert len({one.name for one in INTERFACES}) == len(INTERFACES)


def run(kernel: str, **changes: Any) -> dict[str, Any]:
    parts = {one.name: {"have": [*map(label, one.parts)], "lack": []} for one in INTERFACES}
    return {
        "kernel": kernel, "machine": "x86_64", "box": None, "cgroup": "v2", "lab": "quickstart",
        "time_scale": 2.0, "verdict": "passed", "ended": "finished", "versions": {},
        "interfaces": parts,
        "features": {"ksm": {"works": True, "reason": "there"}, "psi": {"reason": "a | b"}},
        "saved": {"sharing": 1.0, "ballooning": 2.0, "compression": 3.25, "swap": 4.0},
        "residual": 0.0012, **changes,
    }  # fmt: skip


def test_the_page_says_what_each_kernel_lacks() -> None:
    old = run("6.1.9")
    old["features"]["ksm"] = {"works": False, "reason": "none"}
    old["interfaces"]["DAMON"] = {"have": [], "lack": ["nr_kdamonds"]}
    old["interfaces"]["mappings"] = {"have": ["smaps", "Rss", "Pss", "Swap"], "lack": ["KSM"]}
    del old["interfaces"]["frames"]
    page = support_tables([run("6.18.1"), old])
    rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines()}
    assert "| yes: there | **no**: none |" in rows["`ksm`"]
    assert "?: a \\| b" in rows["`psi`"]
    assert "| yes | **no** |" in rows["DAMON"]
    assert "| yes | without `KSM` |" in rows["mappings"]
    assert "| yes | – |" in rows["frames"]
    assert "| 0.12% | 0.12% |" in rows["ledger's residual, of the budget"]
    assert "| 6.18, v2 | 6.1, v2 |" in page
    assert "| 2 | 2 |" in rows["times multiplied by"]


def test_runs_on_machines_come_before_boxes_and_new_kernels_before_old(tmp_path: Path) -> None:
    box = {"release": "trixie", "accelerator": "tcg"}
    for name, one in (("a", run("6.1.9")), ("b", run("7.3", box=box)), ("c", run("6.18.1"))):
        (tmp_path / f"{name}.json").write_text(json.dumps(one))
    assert [one["kernel"] for one in load(tmp_path)] == ["6.18.1", "6.1.9", "7.3"]


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_kept_of_a_run_tells_nothing_of_its_machine(path: Path) -> None:
    kept = json.loads(path.read_text())
    assert kept["kernel"].replace(".", "").isdigit()
    assert not {"host", "source", "plan"} & set(kept)
    assert not {"machine", "others"} & set(kept["features"])
    assert set(kept["interfaces"]) == {one.name for one in INTERFACES}
