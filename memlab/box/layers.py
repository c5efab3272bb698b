"""The layers over the distribution: Python libraries for the guest's Python, and this memlab."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

from memlab.box import recipe
from memlab.box.tools import Guest
from memlab.errors import HostError

PACKAGE: Final = Path(__file__).parents[1]
_GLIBC: Final = (17, 24, 26, 27, 28, 31, 34)
"""Minor versions of glibc 2 that wheels are built for, and every box has."""
_STARTER: Final = """\
#!/usr/bin/python3 -P
import sys
from memlab.cli.main import main
sys.exit(main())
"""


def key(*facts: object) -> str:
    """A short name of these facts, another one if any of them differs."""
    text = "\0".join(str(fact) for fact in (recipe.VERSION, *facts))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def base_key(release: str) -> str:
    """Of the layer with the distribution's files."""
    scripts = (recipe.BOOT_SCRIPT, recipe.INIT_SCRIPT, recipe.PASSWD, recipe.GROUP)
    modules = (*recipe.BOOT_MODULES, *recipe.MODULES)
    return key(release, *recipe.PACKAGES, *modules, *scripts, recipe.SCRATCH_BYTES)


_LEFT_OUT: Final = "numpy"
"""Large, and for `memlab simulate` alone, which needs no box."""


def requirements(extras: Iterable[str]) -> list[str]:
    """What a lab in a box requires of this memlab's own requirements, and `extras` besides."""
    ours = metadata.requires("memlab") or []
    needed = (line for line in ours if "extra ==" not in line and not line.startswith(_LEFT_OUT))
    return sorted({*needed, *extras})


def deps_key(base: str, python: str, extras: Iterable[str]) -> str:
    """Of the layer with Python libraries."""
    return key(base, python, *requirements(extras))


def memlab_key(package: Path = PACKAGE) -> str:
    """Of this memlab's files, whatever their times."""
    digest = hashlib.sha256(str(recipe.VERSION).encode())
    for path in _files(package):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _files(package: Path) -> list[Path]:
    found = (path for path in package.rglob("*") if "__pycache__" not in path.parts)
    return sorted(path for path in found if path.is_file())


def make_deps(guest: Guest, extras: Iterable[str], work: Path, target: Path) -> None:
    """The libraries' image at `target`. HostError with pip's own words if they cannot be had."""
    put_deps(guest, extras, work)
    guest.image(work, target)


def put_deps(guest: Guest, extras: Iterable[str], work: Path) -> None:
    """The libraries in `work`, the guest's `/`; HostError as above."""
    site = work / "usr/local/lib" / guest.python / "dist-packages"
    site.mkdir(parents=True)
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC]
    words = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--target", str(site), "--only-binary=:all:", "--implementation=cp", "--no-compile"),
        f"--python-version={guest.python.removeprefix('python')}",
        *(f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}")),
        *requirements(extras),
    ]
    run = subprocess.run(
        words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if run.returncode:
        raise HostError(
            f"pip could not get memlab's libraries for the box: {_why(run.stderr)}",
            hint="look whether pip reaches its registry: "
            f"{sys.executable} -m pip download --no-deps click",
        )
    shutil.rmtree(site / "bin", ignore_errors=True)
    guest.compile_python(site, work)


def _why(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it said nothing"])[-1]


def make_memlab(guest: Guest, work: Path, target: Path) -> None:
    """This memlab's image at `target`: the package as it is here, its agent, its command."""
    put_memlab(guest, work)
    guest.image(work, target)


def put_memlab(guest: Guest, work: Path) -> None:
    """This memlab in `work`, the guest's `/`."""
    from memlab.guest.build import agent_path

    site = work / "usr/local/lib" / guest.python / "dist-packages"
    site.mkdir(parents=True, exist_ok=True)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, site / "memlab", ignore=skip)
    binary = site / "memlab/_bin/memlab-agent"
    binary.parent.mkdir(exist_ok=True)
    shutil.copy(agent_path(), binary)
    version = metadata.version("memlab")
    facts = site / f"memlab-{version}.dist-info"
    facts.mkdir()
    text = (
        metadata.distribution("memlab").read_text("METADATA")
        or f"Name: memlab\nVersion: {version}\n"
    )
    (facts / "METADATA").write_text(text)
    starter = work / "usr/local/bin/memlab"
    starter.parent.mkdir(parents=True)
    starter.write_text(_STARTER)
    starter.chmod(0o755)
    guest.compile_python(site / "memlab", work)
