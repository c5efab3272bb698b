"""Memory cgroups of both versions: a captured hybrid tree, and one written from documentation."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from memlab.errors import HostError, KernelError
from memlab.kernel import cgroup, cgroup_tree
from memlab.kernel.cgroup import Layout, LimitWrite
from memlab.kernel.cgroup_v1 import V1Group
from memlab.kernel.cgroup_v2 import V2Group, place
from memlab.kernel.files import Roots
from memlab.kernel.psi import Pressure
from tests.captured import DOCUMENTED_V2, HYBRID, PID

MIB = 1 << 20


@pytest.fixture
def hybrid(tmp_path: Path) -> Roots:
    shutil.copytree(HYBRID.cgroup.parent, tmp_path, dirs_exist_ok=True)
    return Roots(proc=tmp_path / "proc", sys=tmp_path / "sys", cgroup=tmp_path / "cgroup")


@pytest.fixture
def v2(tmp_path: Path) -> Roots:
    shutil.copytree(DOCUMENTED_V2.cgroup.parent, tmp_path, dirs_exist_ok=True)
    return Roots(proc=tmp_path / "proc", sys=tmp_path / "sys", cgroup=tmp_path / "cgroup")


def test_the_layout_is_found_by_looking(tmp_path: Path) -> None:
    assert cgroup.layout(HYBRID) is Layout.HYBRID
    assert cgroup.layout(DOCUMENTED_V2) is Layout.V2
    (tmp_path / "memory,hugetlb").mkdir()
    assert cgroup.layout(Roots(cgroup=tmp_path)) is Layout.V1


@pytest.mark.parametrize("there", [True, False])
def test_no_memory_controller_is_said(tmp_path: Path, there: bool) -> None:
    folder = tmp_path if there else tmp_path / "none"
    with pytest.raises(HostError, match="no memory controller"):
        cgroup.layout(Roots(cgroup=folder))


def test_a_labs_group_lies_below_our_own() -> None:
    group = cgroup.lab_group("cap", HYBRID)
    assert isinstance(group, V1Group)
    assert group.path == HYBRID.cgroup / "memory/box/memlab-cap"
    assert group.unified_path == HYBRID.cgroup / "unified/memlab-cap"
    assert cgroup.lab_group("x", DOCUMENTED_V2).path == (
        DOCUMENTED_V2.cgroup / "user.slice/lab.scope/memlab-x"
    )


def test_a_container_that_sees_only_its_part_of_the_tree(hybrid: Roots) -> None:
    (hybrid.proc / "self/cgroup").write_text("4:memory:/docker/4f2a\n0::/docker/4f2a\n")
    assert cgroup.own_memory_group(hybrid) == hybrid.cgroup / "memory"
    assert cgroup.own_unified_group(hybrid) == hybrid.cgroup / "unified"


def test_v1_figures() -> None:
    group = cgroup.lab_group("cap", HYBRID).child("vm1")
    usage, memsw, stat = group.usage(), group.memsw(), group.stat()
    assert usage and memsw and stat
    assert stat.anon == 6025216 and stat.swap == group.swap_usage() == 7770112
    assert stat.swapcached == 421888 and stat.refault_anon == 103
    assert abs(memsw - usage - stat.swap + stat.swapcached) < 128 * 4096
    assert stat.zswap is stat.zswapped is stat.kernel is None, "v1 cannot tell"
    assert group.limit() is None and group.oom_kills() == 0
    assert group.procs() == (PID,)
    assert group.pressure() == Pressure(0, 0)
    assert group.set_min(1) is group.set_zswap_max(1) is None
    assert group.set_control("memory.high", "1") is None


def test_v1_reclaims_by_its_limit_which_is_put_back(hybrid: Roots) -> None:
    group = cgroup.lab_group("cap", hybrid).child("vm1")
    limit, usage = group.path / "memory.limit_in_bytes", group.usage()
    written: list[str] = []

    def write(file: Path, value: str, *, timeout: float) -> tuple[float, str]:
        assert file == limit and timeout < 1
        written.append(value)
        return 0.0, ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cgroup_tree, "write_limit", write)
        assert usage and group.reclaim(MIB) == 0, "nothing moves in a captured tree"
    assert written == [str(usage - MIB)]
    assert limit.read_text() == "-1", "there was none"


def test_v1_stat_is_of_the_subtree() -> None:
    lab = cgroup.lab_group("cap", HYBRID)
    whole = lab.stat()
    assert whole and whole.swap == 7770112, "the lab's own group has no process"
    assert lab.procs() == (PID,)


def test_v2_figures() -> None:
    group = cgroup.lab_group("cap", DOCUMENTED_V2).child("vm1")
    stat = group.stat()
    assert stat and (stat.anon, stat.zswap, stat.zswapped) == (6025216, 4251648, 7770112)
    assert stat.swap is None, "v2 has a file of its own for it"
    assert group.usage() == 16 * MIB and group.swap_usage() == 7770112
    assert group.memsw() == 16 * MIB + 7770112 - 421888
    assert group.limit() is None and group.oom_kills() == 1
    assert group.pressure() == Pressure(201234, 150111)


def test_files_to_keep_open() -> None:
    v1 = cgroup.lab_group("cap", HYBRID).child("vm1")
    assert v1.files == cgroup.files_of(v1.path, v1.unified_path)
    assert v1.files.usage.name == "memory.usage_in_bytes"
    assert v1.files.swap and v1.files.swap.exists()
    assert v1.files.pressure and v1.files.pressure.exists()
    alone = cgroup.files_of(v1.path, None)
    assert alone.pressure is None
    v2 = cgroup.lab_group("cap", DOCUMENTED_V2).child("vm1")
    assert cgroup.files_of(v2.path, v2.path) == v2.files
    assert v2.files.swap and v2.files.swap.name == "memory.swap.current"


def test_a_group_by_its_directories() -> None:
    path = HYBRID.cgroup / "memory/box/memlab-gone"
    gone = cgroup.group_at(path, HYBRID.cgroup / "unified/memlab-gone")
    assert isinstance(gone, V1Group)
    assert {gone.stat(), gone.usage(), gone.pressure(), gone.oom_kills()} == {None}
    assert gone.procs() == () and gone.kill(timeout=0.1) == ()
    gone.remove()
    assert isinstance(cgroup.group_at(DOCUMENTED_V2.cgroup / "user.slice/x"), V2Group)


def test_making_and_removing_both_directories(hybrid: Roots) -> None:
    lab = cgroup.lab_group("new", hybrid)
    vm = lab.child("vm1")
    lab.create()
    vm.create()
    assert vm.path.is_dir() and vm.unified_path and vm.unified_path.is_dir()
    lab.remove()
    assert not lab.path.exists() and lab.unified_path and not lab.unified_path.exists()
    lab.remove()


def test_nothing_is_left_when_the_second_directory_cannot_be_made(hybrid: Roots) -> None:
    (hybrid.cgroup / "unified/memlab-new").mkdir()
    lab = cgroup.lab_group("new", hybrid)
    with pytest.raises(KernelError, match="exists"):
        lab.create()
    assert not lab.path.exists()


def test_cgroups_that_cannot_be_written_name_the_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise OSError(errno.EROFS, "as in a container")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(HostError, match="Read-only") as caught:
        cgroup.lab_group("ro", HYBRID).create()
    assert "as root" in caught.value.hint


def test_a_limit_says_asked_got_and_seconds(v2: Roots) -> None:
    group = cgroup.lab_group("cap", v2).child("vm1")
    (group.path / "memory.max").write_text("")
    got = group.set_limit(64 * MIB)
    assert got.took and (got.asked, got.got, got.refused) == (64 * MIB, 64 * MIB, "")
    assert got.seconds >= 0
    (group.path / "memory.swap.max").write_text("")
    assert group.set_swap_limit(None).took
    assert (group.path / "memory.swap.max").read_text() == "max"


@pytest.mark.parametrize(
    ("asked", "got", "took"),
    [
        (None, None, True),
        (4097, 4096, True),
        (8192, 4096, False),
        (4096, None, False),
        (None, 1, False),
    ],
)
def test_a_limit_took_in_whole_pages(asked: int | None, got: int | None, took: bool) -> None:
    assert LimitWrite(Path("x"), asked, got, 0.0).took is took


def test_v1_moves_memory_and_swap_in_the_order_that_the_kernel_wants(
    hybrid: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = cgroup.lab_group("cap", hybrid).child("vm1")
    written: list[tuple[str, str]] = []

    def write(file: Path, value: str, *, timeout: float) -> tuple[float, str]:
        written.append((file.name.split(".")[1], value))
        file.write_text(value if value != "-1" else "9223372036854771712")
        return 0.0, ""

    monkeypatch.setattr(cgroup_tree, "write_limit", write)
    group.set_limit(8 * MIB)
    group.set_swap_limit(2 * MIB)
    group.set_limit(16 * MIB)
    group.set_limit(4 * MIB)
    group.set_limit(None)
    sizes = [(name, int(value) // MIB) for name, value in written[:-2]]
    assert sizes == [
        ("limit_in_bytes", 8),
        ("memsw", 10),
        *(("memsw", 18), ("limit_in_bytes", 16)),
        *(("limit_in_bytes", 4), ("memsw", 6)),
    ]
    assert written[-2:] == [("memsw", "-1"), ("limit_in_bytes", "-1")]


def test_v2_goes_below_us_if_we_hand_memory_down(v2: Roots) -> None:
    own = v2.cgroup / "user.slice/lab.scope"
    assert place(own, v2.cgroup) == own


def test_v2_in_a_session_goes_below_our_slice(v2: Roots) -> None:
    own = v2.cgroup / "user.slice/lab.scope"
    (own / "cgroup.subtree_control").write_text("")
    assert place(own, v2.cgroup) == v2.cgroup / "user.slice"


@pytest.mark.parametrize("user", [0, 1000])
def test_v2_a_user_is_told_the_place_that_root_gets(
    v2: Roots, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    own = v2.cgroup / "user.slice/lab.scope"
    (own / "cgroup.subtree_control").write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if user != 0:
        assert place(own, v2.cgroup) == v2.cgroup / "user.slice"
        return
    with pytest.raises(HostError, match="no cgroup was delegated"):  # a tree to be read only
        place(own, v2.cgroup)


def test_v2_without_the_controller_says_what_to_do(v2: Roots) -> None:
    for group in ("", "user.slice", "user.slice/lab.scope"):
        (v2.cgroup / group / "cgroup.controllers").write_text("cpu pids\n")
        (v2.cgroup / group / "cgroup.subtree_control").write_text("pids\n")
    with pytest.raises(HostError, match="memory controller is not available") as caught:
        place(v2.cgroup / "user.slice/lab.scope", v2.cgroup)
    assert "Delegate=yes" in caught.value.hint


def test_v2_the_root_of_the_tree_may_hold_processes(v2: Roots) -> None:
    (v2.cgroup / "cgroup.subtree_control").write_text("cpu")
    (v2.cgroup / "cgroup.procs").write_text("1\n77\n")
    group = V2Group(v2.cgroup / "memlab-x")
    group.create()
    assert (v2.cgroup / "cgroup.subtree_control").read_text() == "+memory"
    assert not (v2.cgroup / "memlab-x-beside").exists()
    assert (v2.cgroup / "cgroup.procs").read_text() == "1\n77\n"


def test_psi_off_and_missing_files_are_absent(v2: Roots) -> None:
    group = cgroup.lab_group("cap", v2).child("vm1")
    for name in ("memory.pressure", "memory.events", "memory.swap.current", "memory.reclaim"):
        (group.path / name).unlink()
    assert {group.pressure(), group.oom_kills(), group.swap_usage()} == {None}
    assert group.reclaim(MIB) is group.memsw() is None
    assert group.files.swap is None
