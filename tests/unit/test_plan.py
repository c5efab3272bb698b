"""What a lab will turn, and what becomes of a knob that does not take."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from memlab.errors import HostError, KernelError
from memlab.kernel.files import Applied
from memlab.lab import plan as planning
from memlab.lab.load import loads
from memlab.lab.plan import Change, plan
from memlab.lab.stage import hold
from tests.captured import HYBRID
from tests.unit.fake_host import FakeHost

LAB = """
name: one
host: {memory: 96MiB, swap: {size: 128MiB}}
vms: {one: {memory: 32MiB}}
"""
PROGRAMS = """
name: programs
host: {memory: 64MiB}
mechanisms: {swap: off, compression: off, tps: {tps}}
vms: {one: {memory: 16MiB, command: [sleep, "60"]}}
"""
POOL = Change(Path("/sys/zpool"), "zbud", "zsmalloc", "", wish=True)
RUN = Change(Path("/sys/run"), "0", "1", "")


def changes(host: FakeHost) -> dict[str, Change]:
    found = plan(loads(LAB, name="one.memlab.yaml").lab, roots=host.roots).changes
    return {change.path.name: change for change in found}


def test_the_pool_s_kind_is_a_wish_where_there_is_a_choice(tmp_path: Path) -> None:
    host = FakeHost.make(tmp_path)
    assert "zpool" not in changes(host), "gone since 6.18"
    host.zswap("zpool").write_text("zbud\n")
    assert changes(host)["zpool"].new == "zsmalloc" and changes(host)["zpool"].wish
    assert not changes(host)["enabled"].wish


def test_a_wish_that_is_refused_or_not_taken_stops_nothing() -> None:
    asked: list[str] = []

    def refused(path: Path, value: str) -> Applied:
        asked.append(value)
        raise KernelError(path, "write", errno.ENOENT)

    hold(POOL, refused)
    hold(POOL, lambda path, value: Applied(path, value, "zbud"))
    assert asked == ["zsmalloc"]
    with pytest.raises(KernelError):
        hold(RUN, refused)


def test_what_the_lab_needs_has_to_take() -> None:
    hold(RUN, lambda path, value: Applied(path, value, value))
    with pytest.raises(HostError, match="run did not take"):
        hold(RUN, lambda path, value: Applied(path, value, "0"))


@pytest.mark.parametrize(
    ("tps", "can", "told"), [("on", False, 1), ("on", True, 0), ("off", False, 0)]
)
def test_programs_that_cannot_be_shared_are_told(
    tps: str, can: bool, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "merges_whole_processes", lambda: can)
    lab = loads(PROGRAMS.replace("{tps}", tps), name="programs.memlab.yaml").lab
    lines = [line for line in plan(lab, roots=HYBRID).lines() if "Linux 6.4" in line]
    assert len(lines) == told
