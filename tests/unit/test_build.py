from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from memlab.errors import HostError
from memlab.guest import build

ROOT = Path(__file__).parents[2]
MACHINE = platform.machine()
PT_INTERP = 3


def program_headers(binary: bytes) -> list[int]:
    """Types of an ELF file's program headers (64 bit, little-endian)."""
    (start,) = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    return [struct.unpack_from("<I", binary, start + size * n)[0] for n in range(count)]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A binary that is yet to be made, from sources of its own."""
    sources = tmp_path / "memlab/guest/agent"
    sources.mkdir(parents=True)
    (sources / "main.c").write_text("int main(void) { return 7; }\n")
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setattr(build, "BINARY", tmp_path / "memlab/_bin/memlab-agent")
    return sources


def test_the_agent_is_static_and_small() -> None:
    binary = build.agent_path().read_bytes()
    assert binary[:4] == b"\x7fELF"
    assert PT_INTERP not in program_headers(binary), "it needs no loader"
    assert len(binary) < 1_000_000


def test_a_checkout_compiles_once_and_again_when_a_source_is_newer(checkout: Path) -> None:
    binary = build.agent_path()
    assert subprocess.run([binary], check=False).returncode == 7
    first = binary.stat()
    assert build.agent_path().stat() == first
    (checkout / "main.c").write_text("int main(void) { return 8; }\n")
    os.utime(checkout / "main.c", (first.st_mtime + 10, first.st_mtime + 10))
    assert subprocess.run([build.agent_path()], check=False).returncode == 8
    assert sorted(file.name for file in binary.parent.iterdir()) == ["memlab-agent"]


def test_a_broken_source_is_one_error_with_the_compilers_words(checkout: Path) -> None:
    (checkout / "main.c").write_text("int main(void) { return nonsense; }\n")
    with pytest.raises(HostError, match="nonsense") as failed:
        build.agent_path()
    assert "apt install gcc" in failed.value.hint
    assert not build.BINARY.exists()


def test_no_compiler_is_one_sentence_with_the_apt_line(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(HostError, match="there is no C compiler") as failed:
        build.agent_path()
    assert "sudo apt install gcc libc6-dev" in failed.value.hint


def test_zig_serves_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "ziglang" or None)
    command = build.compiler("aarch64" if MACHINE == "x86_64" else "x86_64")
    assert command[:4] == (sys.executable, "-m", "ziglang", "cc")
    assert command[4] == "-target"
    with pytest.raises(build.BuildError, match="no target is known for vax"):
        build.compiler("vax")


def test_an_installed_binary_is_never_rebuilt(checkout: Path, tmp_path: Path) -> None:
    binary = tmp_path / "site-packages/memlab/_bin/memlab-agent"
    binary.parent.mkdir(parents=True)
    shutil.copy(build.compile_agent(build.BINARY), binary)
    os.utime(binary, (1, 1))
    assert build.is_current(binary)
    assert not build.is_current(binary.with_name("other"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built by the hook itself."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(
        ROOT / "memlab", tree / "memlab", ignore=shutil.ignore_patterns("_bin", "__py*")
    )
    for name in ("pyproject.toml", "hatch_build.py"):
        shutil.copy(ROOT / name, tree / name)
    for name in ("README.md", "LICENSE"):
        (tree / name).write_text("for the build\n")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tree / "dist")]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = (tree / "dist").glob("*.whl")
    return made


def test_a_wheel_is_for_this_machine_and_holds_the_agent(wheel: Path) -> None:
    assert wheel.name.endswith(f"-py3-none-linux_{MACHINE}.whl")
    with zipfile.ZipFile(wheel) as archive:
        agents = [info for info in archive.infolist() if "memlab-agent" in info.filename]
        assert [info.filename for info in agents] == ["memlab/_bin/memlab-agent"]
        assert stat.S_IMODE(agents[0].external_attr >> 16) & 0o111 == 0o111
        assert b"Root-Is-Purelib: false" in archive.read(
            next(name for name in archive.namelist() if name.endswith("/WHEEL"))
        )


def test_pip_takes_the_wheel(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    command += ["--disable-pip-version-check", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    agent = tmp_path / "site/memlab/_bin/memlab-agent"
    said = subprocess.run([agent, "--layout"], capture_output=True, check=True).stdout
    assert said.startswith(b'{"magic":')
