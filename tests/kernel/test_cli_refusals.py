"""What is refused on this very kernel when it is made to lack something; nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import memlab
from memlab.kernel.cgroup import own_memory_group
from tests.hoststate import assert_same, snapshot
from tests.pace import slowness

pytestmark = pytest.mark.kernel

ROOT = Path(memlab.__file__).parents[1]
LAB = """\
name: refused
host: {memory: 64MiB, swap: {size: 64MiB}}
vms: {a: {memory: 16MiB, workload: {name: idle, size: 4MiB}}}
duration: 2s
"""
AS_NOBODY = """
import contextlib, io, os, sys
from memlab.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["doctor"])  # everything is imported while that is allowed
os.environ.pop("MEMLAB_RUN_DIR")
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
sys.exit(main(sys.argv[1:]))
"""


def ran(folder: Path, *words: str, code: int, before: str = "true", python: str = "") -> str:
    """What memlab says in a mount namespace of its own, after the shell command `before`."""
    marks = (str(folder.parent),)
    here = snapshot([folder], marks=marks)
    program = ["-c", python] if python else ["-m", "memlab"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", f'{before}; exec "$@"', "sh", sys.executable, *program,
         *words],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60 * slowness(),
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "100",
             "MEMLAB_RUN_DIR": str(folder.parent / "run")},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert_same(here, snapshot([folder], marks=marks))
    return done.stdout + done.stderr


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/refused.memlab.yaml").write_text(LAB)
    return tmp_path / "lab"


def test_cgroups_that_are_read_only(lab: Path) -> None:
    own = own_memory_group()
    mount = next(path for path in (own, *own.parents) if path.is_mount())
    said = ran(lab, "up", code=3, before=f"mount -o remount,ro,bind {mount}")
    assert "is mounted read-only: no cgroup can be made" in said
    assert "docker run --privileged" in said


def test_knobs_that_are_read_only(lab: Path) -> None:
    said = ran(lab, "up", code=3, before="mount -o remount,ro,bind /sys")
    assert "read-only" in said


def test_no_ksm(lab: Path) -> None:
    said = ran(lab, "up", code=3, before="mount -t tmpfs none /sys/kernel/mm/ksm")
    assert "this kernel has no KSM" in said
    assert "--set mechanisms.tps=off" in said


def test_no_zswap(lab: Path) -> None:
    said = ran(lab, "up", code=3, before="mount -t tmpfs none /sys/module/zswap")
    assert "this kernel has no zswap" in said


def test_a_swap_file_on_tmpfs(lab: Path) -> None:
    said = ran(lab, "up", "--set", "host.swap.path=/mnt", code=3, before="mount -t tmpfs none /mnt")
    assert "tmpfs cannot hold a swap file" in said
    assert "host.swap.device: zram" in said


def test_more_than_there_is(lab: Path) -> None:
    assert "the host would be short of memory" in ran(
        lab, "up", "--set", "host.memory=900GiB", "--i-know", code=3
    )
    said = ran(lab, "up", "--set", "vms.a.count=20", code=3)
    assert "the VMs might not fit" in said
    assert "--i-know" in said


def test_needs_that_this_host_lacks(lab: Path) -> None:
    said = ran(
        lab, "up", "--set", "needs=[psi, ksm]", "--set", "mechanisms.tps=off", code=3,
        before="mount -t tmpfs none /sys/kernel/mm/ksm",
    )  # fmt: skip
    assert "this lab needs ksm, which is missing here" in said
    assert "CONFIG_KSM" in said


def test_without_rights(lab: Path) -> None:
    words = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    done = subprocess.run(
        [*words, sys.executable, "-m", "memlab", "up"], cwd=lab, text=True, check=False,
        capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 3
    assert "root without CAP_SYS_ADMIN" in done.stderr


def test_doctor_of_an_ordinary_user_on_a_machine_without_ksm(lab: Path) -> None:
    before = "mount -t tmpfs none /sys/kernel/mm/ksm"
    code = 0 if shutil.which("sudo") else 3
    said = ran(lab, "doctor", "-f", "json", code=code, before=before, python=AS_NOBODY)
    answer = json.loads(said.splitlines()[0])
    features = {one["feature"]: one for one in answer["features"]}
    assert features["ksm"]["works"] is False
    assert "CONFIG_KSM" in features["ksm"]["repair"]
    assert "works" not in features["memory-cgroup"]
    labs = {one["lab"]: one for one in answer["labs"]}
    assert "ksm" in labs["quickstart"]["missing"]
    assert "ksm" not in labs["baseline"]["missing"]


def test_doctor_of_root_in_depth(lab: Path) -> None:
    answer = json.loads(ran(lab, "doctor", "--deep", "-f", "json", code=0))
    features = {one["feature"]: one for one in answer["features"]}
    assert features["ksm"]["found_by"].startswith("switched KSM on")
    assert features["ksm"]["works"] is True
    assert "lzo" in features["compressors"]["reason"]
