"""The kernel tests in a box: cgroup v2 on Debian's 6.12 and 6.1, the two releases side by side.

A test here is one file of tests/kernel on one release; what failed in it is shown as pytest inside
has said it. Inside, the tests run against the memlab that is installed in the box.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.box.conftest import FIGURES, User, build, give, user_in

pytestmark = pytest.mark.box

ROOT = Path(__file__).parents[2]
RELEASES = ("trixie", "bookworm")
SECONDS = 900
"""Most that the two releases, side by side, may take."""

NOT_HERE = {
    "test_bundled_labs.py": "11 minutes there; test_lab.py has the quickstart in a box",
}
"""Files that are left out in the box, and why."""
DESELECTED: Mapping[str, str] = {}
"""Single tests that are left out in the box, and why: nothing of theirs can be scaled."""

LACKS = "this kernel lacks "
"""How the reason of a skip begins that is a fact of the kernel, and no one's neglect."""


@dataclass(frozen=True)
class Case:
    """One test inside: what is wrong with it, or why it was not run ("" and "": it passed)."""

    name: str
    file: str
    wrong: str
    skipped: str


@dataclass(frozen=True)
class Ran:
    """What pytest inside has found; no cases if it did not come to its end."""

    cases: Sequence[Case]
    said: str


def files() -> list[str]:
    """The files of tests/kernel that run in the box."""
    found = sorted(path.name for path in (ROOT / "tests/kernel").glob("test_*.py"))
    assert set(NOT_HERE) <= set(found), "a file that is left out is not there any more"
    return [name for name in found if name not in NOT_HERE]


@pytest.fixture(scope="session")
def ran(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    boxes: Path,
    built: Sequence[str],
) -> dict[str, Ran]:
    """Run what is asked for of each release, all releases at once; what came of it."""
    wanted = _wanted(request.session.items)
    users = {name: user_in(tmp_path_factory.mktemp(name), boxes) for name in wanted}
    for release, user in users.items():
        build(user, release)
        _lay_out(user.folder)
    began = time.monotonic()
    started = {name: _start(users[name], name, wanted[name]) for name in wanted}
    try:
        for one in started.values():
            one.wait(max(1.0, began + SECONDS - time.monotonic()))
    finally:
        for one in started.values():
            one.kill()
    found = {name: _read(user.folder) for name, user in users.items()}
    request.config.stash[FIGURES] = [_figures(name, one) for name, one in found.items()]
    return found


def _wanted(items: Sequence[pytest.Item]) -> dict[str, list[str]]:
    """The files to run, by release: those of the tests here that are to be run."""
    found: dict[str, list[str]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.function is test_kernel_in_the_box:
            release, file = (str(item.callspec.params[name]) for name in ("release", "file"))
            found.setdefault(release, []).append(file)
    return found


def _lay_out(folder: Path) -> None:
    """The tests, and how pytest is set up: without memlab, which the box has."""
    shutil.copytree(
        ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "captured")
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    give(*folder.rglob("*"))


def _start(user: User, release: str, names: Sequence[str]) -> subprocess.Popen[bytes]:
    """pytest in a box."""
    words = ["box", "run", "--release", release, "--memory", "3GiB", "--"]
    words += ["env", "PYTHONDONTWRITEBYTECODE=1", "python3", "-m", "pytest", "-v", "-m", "kernel"]
    words += ["-p", "no:cacheprovider", "--tb=short", "--junitxml=results.xml"]
    words += [f"--deselect=tests/kernel/{name}" for name in DESELECTED]
    with (user.folder / "said").open("wb") as said:
        return user.start(
            *words, *(f"tests/kernel/{name}" for name in names),
            stdout=said.fileno(), stderr=said.fileno(),
        )  # fmt: skip


def _read(folder: Path) -> Ran:
    said = (folder / "said").read_text("utf-8", "replace")
    results = folder / "results.xml"
    if not results.exists():
        return Ran((), said)
    return Ran([_case(one) for one in ET.parse(results).iter("testcase")], said)


def _case(one: ET.Element) -> Case:
    """A test; of a file that could not be loaded the name says which."""
    words = (one.get("classname") or one.get("name") or "").split(".")
    wrong = [part.text or part.get("message") or "?" for part in one if part.tag in _WRONG]
    skipped = [part.get("message") or "?" for part in one if part.tag == "skipped"]
    name = f"{'.'.join(words[3:])}.{one.get('name')}".lstrip(".")
    return Case(name, f"{words[2]}.py", "\n".join(wrong), "".join(skipped))


_WRONG = ("failure", "error")


def _figures(release: str, ran: Ran) -> str:
    """A line of what came of a release."""
    lacking = [case for case in ran.cases if case.skipped]
    wrong = sum(bool(case.wrong) for case in ran.cases)
    passed = len(ran.cases) - len(lacking) - wrong
    last = ran.said.rstrip().rpartition("\n")[2].strip("= ")
    lines = [f"{release}: {passed} passed, {wrong} failed, {len(lacking)} not applicable ({last})"]
    lines += [f"  {case.file}: {case.name}: {case.skipped}" for case in lacking]
    return "\n".join(lines)


@pytest.mark.parametrize("file", files())
@pytest.mark.parametrize("release", RELEASES)
def test_kernel_in_the_box(ran: Mapping[str, Ran], release: str, file: str) -> None:
    mine = [case for case in ran[release].cases if case.file == file]
    assert mine, f"no result of {file}:\n{ran[release].said[-4000:]}"
    wrong = [f"{case.name} on {release}:\n{case.wrong}" for case in mine if case.wrong]
    assert not wrong, "\n\n".join(wrong)
    neglected = [case for case in mine if case.skipped and not case.skipped.startswith(LACKS)]
    assert not neglected, f"skipped, though no fact of the kernel says why: {neglected}"
    assert any(not case.skipped for case in mine), "nothing of it was run"
