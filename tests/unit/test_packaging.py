"""What the wheel and the source archive hold: built here, from this tree, without the network."""

from __future__ import annotations

import platform
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024


def build(target: str, into: Path) -> Path:
    """The archive that hatchling makes of the tree for `target`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = into.glob("memlab-*")
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with tarfile.open(build("sdist", tmp_path_factory.mktemp("sdist"))) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def tracked(*under: str) -> set[str]:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", *under],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: run it in a clone")
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def test_the_wheel_is_for_this_machine_and_any_python(wheel: Path) -> None:
    assert wheel.name.endswith(f"-py3-none-linux_{platform.machine()}.whl")
    assert wheel.stat().st_size < 2 * MIB


def test_the_agent_in_the_wheel_is_static_and_executable(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entry = archive.getinfo("memlab/_bin/memlab-agent")
        agent = Path(archive.extract(entry, tmp_path))
    assert (entry.external_attr >> 16) & 0o777 == 0o755
    content = agent.read_bytes()
    assert content.startswith(b"\x7fELF")
    assert b"/ld-linux" not in content, "asks for the C library of the machine that it runs on"


def test_all_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert tracked("memlab") <= held
    assert any(name.endswith("licenses/memlab/report/vendor/uPlot.LICENSE") for name in held)
    assert not [name for name in held if "__pycache__" in name or name.startswith("tests")]


def test_the_source_archive_holds_what_builds_and_tests_it(sdist: set[str]) -> None:
    wanted = tracked("memlab", "tests", "scripts", "docs", "benchmarks", ".ci")
    assert wanted <= sdist
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md"} <= sdist
    assert not [name for name in sdist if name.startswith(("memlab/_bin", ".venv"))]


def test_without_a_compiler_the_build_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    nothing = {"PATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=nothing, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "memlab: there is no C compiler; install one: sudo apt install gcc libc6-dev" in said
    assert "Traceback" not in said
