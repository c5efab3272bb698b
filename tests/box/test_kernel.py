"""The kernel tests in a box: cgroup v2 on Debian's 6.12 and 6.1, the two releases side by side.

A test here is one file of tests/kernel on one release; what failed in it is shown as pytest inside
has said it. Inside, the tests run against the memlab that is installed in the box.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.box.conftest import FIGURES, User, build, give, user_in

pytestmark = pytest.mark.box

ROOT = Path(__file__).parents[2]
_V1 = "-v1"
RELEASES = ("trixie", "bookworm", *(["bookworm" + _V1] if "MEMLAB_TEST_V1" in os.environ else []))
"""Of 6.1 there is a box with cgroup v1 too, when that is asked for; trixie's kernel has none."""
SECONDS = 1500
"""Most that the two releases, side by side, may take: 650 on a quiet machine, twice that on a slow
one."""
STOPPING_SECONDS = 60

_LABS = "whole labs in real time, {} minutes on a bare machine; `up --box` is how a box runs labs"
NOT_HERE = {
    "test_active.py": _LABS.format("4"),
    "test_bundled_labs.py": _LABS.format("6"),
    "test_exercises.py": _LABS.format("6"),
    "test_compare.py": "work a second under two policies, which means little on an emulated CPU",
    "test_compression.py": "work a second again",
    "test_cli_refusals.py": "what memlab says where something is missing, not what a kernel does",
}
"""Files that are left out in the box, and why."""

_SAYS = "what a command says, which is the same on every kernel; each takes 5 s in a box"
_ENDS = "half a minute each; test_restore.py has how a host is given back, test_lab.py how labs end"
_LAW = "half a minute each; how the releases differ is the policy's law: one of the four is enough"
_RUDE = "half a minute each; what memlab does with it is the same on every kernel: one is enough"
_RUNNING = "test_cli.py::TestARunningLab::test_"
_AGED = "test_policies.py::test_what_was_made_old_goes_first"
_QUIET = "VMs that go quiet in real time; test_cgroup.py has what goes of memory that was made old"
_RELEASE = "test_policies.py::test_each_release_does_in_its_states_what_the_sheet_says"
_FAILS = "test_policies.py::test_the_lab_goes_on_without_a_policy_that_fails"
NOT_HERE_EITHER = {
    f"{_RUNNING}the_table_has_each_vm_and_the_sums": _SAYS,
    f"{_RUNNING}a_setting_of_the_policy": _SAYS,
    f"{_RUNNING}a_workload": _SAYS,
    f"{_RUNNING}what_cannot_be_set_is_said": _SAYS,
    f"{_RUNNING}the_miniature_guest_answers": _SAYS,
    f"{_RUNNING}logs": _SAYS,
    f"{_RUNNING}events": _SAYS,
    f"{_RUNNING}the_recording_is_the_users": _SAYS,
    f"{_RUNNING}the_same_is_fine": _SAYS,
    f"{_RUNNING}a_changed_file_names_the_ways": _SAYS,
    f"{_RUNNING}another_lab_names_the_owner": _SAYS,
    f"{_RUNNING}down_of_another_name_and_clean_leave_it_alone": _SAYS,
    "test_cli.py::test_dry_run_changes_nothing_and_names_each_change": _SAYS,
    "test_cli.py::test_replace_takes_the_place_and_down_gives_back": _ENDS,
    "test_cli.py::test_sigterm_ends_it_in_order": _ENDS,
    "test_cli.py::test_ctrl_c_at_a_terminal_gives_the_host_back": _ENDS,
    "test_cli.py::test_ctrl_c_twice_stops_no_clean_up": _ENDS,
    f"{_RELEASE}[esx15]": _LAW,
    f"{_RELEASE}[esx41]": _LAW,
    f"{_RELEASE}[esxi5]": _LAW,
    f"{_FAILS}[raise": _RUDE,
    f"{_FAILS}[return": _RUDE,
    _AGED: _QUIET,
}
"""Single tests that are left out in the box, and why."""

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
    for name in NOT_HERE_EITHER:
        file, *_, test = name.partition("[")[0].split("::")
        there = f"def {test}(" in (ROOT / "tests/kernel" / file).read_text("utf-8")
        assert there, f"{name}, which is left out, is not there any more"
    return [name for name in found if name not in NOT_HERE]


@pytest.fixture(scope="session")
def ran(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    boxes: Path,
) -> dict[str, Ran]:
    """Run what is asked for of each release, all releases at once; what came of it."""
    wanted = _wanted(request.session.items)
    users = {name: user_in(tmp_path_factory.mktemp(name), boxes) for name in wanted}
    for release, user in users.items():
        build(user, release.removesuffix(_V1))
        _lay_out(user.folder)
    began = time.monotonic()
    started = {name: _start(users[name], name, wanted[name]) for name in wanted}
    try:
        for one in started.values():
            _wait(one, began + SECONDS)
    finally:
        for one in started.values():
            one.kill()
    found = {name: _read(user.folder) for name, user in users.items()}
    request.config.stash[FIGURES] = [_figures(name, one) for name, one in found.items()]
    return found


def _wait(one: subprocess.Popen[bytes], deadline: float) -> None:
    """Until it has ended; late, pytest inside is told to stop and to say what it has."""
    try:
        one.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        one.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            one.wait(STOPPING_SECONDS)


def _wanted(items: Sequence[pytest.Item]) -> dict[str, list[str]]:
    """The files to run, by release: those of the tests here that are to be run."""
    found: dict[str, list[str]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.function is test_kernel_in_the_box:
            release, file = (str(item.callspec.params[name]) for name in ("release", "file"))
            found.setdefault(release, []).append(file)
    return found


def _lay_out(folder: Path) -> None:
    """The tests, the benchmarks that they hold, and how pytest is set up; the box has memlab."""
    leave = shutil.ignore_patterns("__pycache__", "captured")
    for name in ("tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", folder)
    give(*folder.rglob("*"))


def _start(user: User, release: str, names: Sequence[str]) -> subprocess.Popen[bytes]:
    """pytest in a box."""
    words = ["box", "run", "--release", release.removesuffix(_V1), "--memory", "3GiB"]
    words += ["--cgroup", "v1" if release.endswith(_V1) else "v2", "--"]
    words += ["env", "PYTHONDONTWRITEBYTECODE=1", "python3", "-m", "pytest", "-v", "-m", "kernel"]
    words += ["-p", "no:cacheprovider", "--tb=short", "--junitxml=results.xml"]
    words += [f"--deselect=tests/kernel/{name}" for name in NOT_HERE_EITHER]
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
    words = (one.get("classname") or one.get("name") or "").split(".")[2:] or ["?"]
    wrong = [part.text or part.get("message") or "?" for part in one if part.tag in _WRONG]
    skipped = [part.get("message") or "?" for part in one if part.tag == "skipped"]
    name = ".".join((*words[1:], one.get("name") or "?"))
    return Case(name, f"{words[0]}.py", "\n".join(wrong), "".join(skipped))


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
