"""The Vagrantfile, read by Vagrant itself; scripts/check-vagrant starts a machine from it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.box

ROOT = Path(__file__).parents[2]
PLAIN: dict[str, str] = {}
OF_CHECK_VAGRANT = {
    "MEMLAB_VAGRANT_BOX": "memlab",
    "MEMLAB_VAGRANT_ACCEL": "tcg",
    "MEMLAB_VAGRANT_MEMORY": "1024",
    "MEMLAB_VAGRANT_CPUS": "1",
    "MEMLAB_VAGRANT_POOL": "/var/tmp/pool",
    "MEMLAB_VAGRANT_NETWORK": "none",
    "MEMLAB_VAGRANT_LABS": str(ROOT / "vmspecs"),
}


def validate(folder: Path, home: Path, more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`vagrant validate` of the Vagrantfile in `folder`; what it writes is in `home`."""
    assert shutil.which("vagrant"), "vagrant is missing: apt-get install vagrant-libvirt"
    plain = {name: value for name, value in os.environ.items() if name[:7] != "MEMLAB_"}
    vagrants = {
        "HOME": str(home),
        "VAGRANT_HOME": str(home / "vagrant"),
        "VAGRANT_DOTFILE_PATH": str(home / "dot"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
    }
    return subprocess.run(
        ["vagrant", "validate"], cwd=folder, env={**plain, **vagrants, **more},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_libvirt_provider_is_there(tmp_path: Path) -> None:
    (tmp_path / "Vagrantfile").write_text(
        'abort "no vagrant-libvirt" unless Vagrant.has_plugin?("vagrant-libvirt")\n'
        'Vagrant.configure("2") { |config| config.vm.box = "any" }\n'
    )
    done = validate(tmp_path, tmp_path, PLAIN)
    assert done.returncode == 0, f"apt-get install vagrant-libvirt: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("more", [PLAIN, OF_CHECK_VAGRANT], ids=["plain", "all variables"])
def test_vagrant_accepts_the_file(tmp_path: Path, more: dict[str, str]) -> None:
    there = (ROOT / ".vagrant").exists()  # of somebody who has a machine of this checkout
    done = validate(ROOT, tmp_path, more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validated successfully" in done.stdout
    assert (ROOT / ".vagrant").exists() == there


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("libvirt.cpus = cpus", "libvirt.procesors = cpus", "procesors"),
        ('config.vm.provision "shell"', 'config.vm.provision "shel"', "'shel'"),
    ],
)
def test_vagrant_refuses_what_it_does_not_know(
    tmp_path: Path, right: str, wrong: str, named: str
) -> None:
    text = (ROOT / "Vagrantfile").read_text()
    assert right in text
    (tmp_path / "Vagrantfile").write_text(text.replace(right, wrong))
    (tmp_path / "memlab/box").mkdir(parents=True)
    shutil.copy(ROOT / "memlab/box/provision.sh", tmp_path / "memlab/box")
    done = validate(tmp_path, tmp_path, PLAIN)
    assert done.returncode != 0, done.stdout
    assert named in done.stdout + done.stderr
