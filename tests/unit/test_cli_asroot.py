"""Asking for root: what is passed to sudo, and every way in which it cannot be asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memlab.cli import asroot
from memlab.errors import HostError
from memlab.lab.load import loads

LAB = """\
name: ${NAME:-none}
host: {memory: "${MEMORY}"}
mechanisms: {tps: off, balloon: off, compression: off, swap: off}
policy: none
vms: {a: {memory: 16MiB, workload: {name: idle, size: "${UNSET:-4MiB}"}}}
"""


class LeftError(Exception):
    """Stands for the process becoming another."""


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """An ordinary user at a terminal, with sudo; what would be run as root."""
    ran: list[list[str]] = []

    def execv(_path: str, words: list[str]) -> None:
        ran.append(words)
        raise LeftError

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(asroot, "_has_terminal", lambda: True)
    monkeypatch.setattr(sys, "argv", ["memlab", "up", "my lab.yaml"])
    for name in [one for one in os.environ if one.startswith("MEMLAB_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return ran


def asked(ran: list[list[str]], **variables: str) -> list[str]:
    with pytest.raises(LeftError):
        asroot.become_root(["turn a knob"], variables=variables)
    return ran[-1]


def test_sudo_gets_the_absolute_interpreter_and_every_word(
    user: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LeftError):
        asroot.become_root(["turn a knob"])
    assert user == [
        ["/usr/bin/sudo", "--", sys.executable, "-PB", "-m", "memlab", "up", "my lab.yaml"]
    ]
    assert capsys.readouterr().err == "As root, memlab will:\n  - turn a knob\n"


def test_only_our_variables_go_along(
    user: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMLAB_DIR", "/somewhere")
    monkeypatch.setenv("LD_PRELOAD", "/tmp/bad.so")
    monkeypatch.setenv("PYTHONPATH", "/tmp")
    words = asked(user, LD_PRELOAD="/tmp/bad.so", HOME="/home/me")
    assert words[1] == "--preserve-env=MEMLAB_DIR,MEMLAB_HANDED_VARIABLES"
    assert json.loads(os.environ[asroot.HANDED]) == {
        "LD_PRELOAD": "/tmp/bad.so",
        "HOME": "/home/me",
    }


def test_a_lab_file_is_the_same_on_both_sides_of_sudo(
    user: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "mine")
    monkeypatch.setenv("MEMORY", "64MiB")
    before = loads(LAB, environ=asroot.lab_environment())
    assert before.variables == {"NAME": "mine", "MEMORY": "64MiB"}
    asked(user, **before.variables)
    # What sudo does: another environment, another user; UNSET is set there.
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("NAME", "MEMORY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("UNSET", "8MiB")
    after = loads(LAB, environ=asroot.lab_environment())
    assert after.tree == before.tree


def test_an_ordinary_user_cannot_be_handed_variables(
    user: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(asroot.HANDED, '{"NAME": "planted"}')
    assert asroot.lab_environment() is os.environ
    asked(user, NAME="real")
    assert json.loads(os.environ[asroot.HANDED]) == {"NAME": "real"}


def test_no_sudo(user: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(HostError, match="there is no sudo") as error:
        asroot.become_root([])
    assert f"{sys.executable} -PB -m memlab up" in error.value.hint
    assert error.value.exit_code == 3
    assert not user


def test_nobody_to_ask_for_a_password(
    user: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asroot, "_has_terminal", lambda: False)
    answers: dict[str, int] = {"status": 1}

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert words == ["/usr/bin/sudo", "-n", "true"]
        return subprocess.CompletedProcess(words, answers["status"])

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(HostError, match="no terminal to ask on"):
        asroot.become_root([])
    assert not user
    answers["status"] = 0  # a rule without a password
    asked(user)


def test_pip_install_user_is_found_before_the_password(
    user: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("site.getusersitepackages", lambda: str(tmp_path))
    monkeypatch.setattr("site.ENABLE_USER_SITE", True)
    monkeypatch.setattr(asroot, "package", lambda: tmp_path / "memlab")
    with pytest.raises(HostError, match="for this user alone") as error:
        asroot.become_root([])
    assert "pipx install memlab" in error.value.hint


def test_what_is_typed_as_root_is_one_line_for_a_shell(
    user: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/a b/python")
    assert asroot.typed_as_root("doctor") == "sudo '/a b/python' -PB -m memlab doctor"
    monkeypatch.setattr("shutil.which", lambda name: None)
    ran = subprocess.run(
        ["sh", "-c", f"set -- {asroot.typed_as_root('doctor')}; printf '%s|' \"$@\""],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout == "su|-c|'/a b/python' -PB -m memlab doctor|"


def test_root_without_its_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    from memlab.kernel import probe_host

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(probe_host, "has_root", lambda roots: False)
    with pytest.raises(HostError, match="root without CAP_SYS_ADMIN") as error:
        asroot.must_have_power()
    assert "--privileged" in error.value.hint
    monkeypatch.setattr(probe_host, "has_root", lambda roots: True)
    asroot.must_have_power()
