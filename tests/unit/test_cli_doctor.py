"""What `doctor` says of machines that are not this one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from memlab.cli import asroot, diagnosis
from memlab.cli.main import main
from memlab.kernel import probe as probe_module
from memlab.kernel.finding import AS_ROOT, Feature, Finding


def findings(**changed: bool | None) -> tuple[Finding, ...]:
    """Everything works, but for what is named (with _ for -)."""
    found = []
    for one in Feature:
        works = changed.get(one.name.lower(), True)
        reason = "a virtual machine (Amazon EC2)" if one is Feature.MACHINE else f"{one} was seen"
        repair = {True: "", False: f"mend {one}", None: AS_ROOT}[works]
        found.append(Finding(one, works, f"tried {one}", reason, repair, (f"labs with {one}",)))
    return tuple(found)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("COLUMNS", "100")
    return monkeypatch


def say(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **changed: bool | None
) -> tuple[int, str, str]:
    machine.setattr(probe_module, "probe", lambda **_: findings(**changed))
    code = main(["doctor"])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_everything_works(machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = say(machine, capsys)
    assert code == 0
    for feature in Feature:
        title, place = diagnosis.TITLES[feature]
        assert title in out
        assert f"({feature})" in out
        assert place in out
        assert f"tried {feature}" in out
    assert "NO" not in out
    assert "  yes      quickstart" in out
    assert "Begin with: memlab up quickstart" in err


def test_no_ksm(machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = say(machine, capsys, ksm=False)
    assert code == 0
    assert "fix: mend ksm" in out
    assert "needed for: labs with ksm" in out
    assert "  no       quickstart     missing: page sharing" in out
    assert "  yes      baseline" in out


@pytest.mark.parametrize("missing", ["root", "memory", "memory_cgroup"])
def test_no_lab_at_all_is_exit_3(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    code, out, err = say(machine, capsys, **{missing: False})
    assert code == 3
    assert "  yes " not in out.partition("What it could run")[2]
    assert "memlab report --example" in err


def test_an_ordinary_user_is_told_the_exact_command(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.setattr(os, "geteuid", lambda: 1000)
    machine.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    code, out, _ = say(machine, capsys, root=None, memory_cgroup=None, zswap=None)
    assert code == 0
    assert " ".join(asroot.typed_as_root("doctor").split()) in " ".join(out.split())
    assert "sudo memlab doctor" not in out
    assert "  perhaps  quickstart     only root can tell: memory limits for groups" in out
    assert out.count("let root look, see below") == 3


def test_without_sudo_what_root_could_run_is_said(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.setattr(os, "geteuid", lambda: 1000)
    machine.setattr(shutil, "which", lambda name: None)
    code, out, _ = say(machine, capsys, root=False, ksm=False)
    assert code == 3
    assert "  as root  baseline" in out
    assert "  no       quickstart" in out


def test_the_trap_of_pipx_and_sudo(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    machine.setattr(os, "geteuid", lambda: 1000)
    machine.setattr(Path, "home", lambda: tmp_path)
    command = f"{tmp_path}/.local/bin/memlab"
    machine.setattr(shutil, "which", lambda name: {"memlab": command}.get(name, "/usr/bin/sudo"))
    _, out, _ = say(machine, capsys, root=None)
    assert "`sudo memlab` does not find" in " ".join(out.split())
    machine.setattr(diagnosis, "only_users_site", lambda: True)
    _, out, _ = say(machine, capsys, root=None)
    assert "pipx install memlab" in " ".join(out.split())


@pytest.mark.parametrize(
    ("works", "words"),
    [(True, "run at full speed"), (False, "emulated (TCG)"), (None, "cannot be told")],
)
def test_kvm(
    machine: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    works: bool | None,
    words: str,
) -> None:
    _, out, _ = say(machine, capsys, kvm=works)
    assert words in " ".join(out.split())


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        ("WSL2: its own kernel", "Microsoft's kernel has often no KSM"),
        ("in a container (Docker)", "it needs --privileged"),
        ("a virtual machine (Google Cloud)", "nested virtualisation"),
    ],
)
def test_kinds_of_machines_have_their_known_limits(sign: str, words: str) -> None:
    assert any(words in one for one in diagnosis._known_limits(f"Linux 6; {sign}"))


def test_json_leaves_out_what_is_not_known(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.setattr(probe_module, "probe", lambda **_: findings(zswap=None, ksm=False))
    assert main(["doctor", "-f", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    features = {one["feature"]: one for one in answer["features"]}
    assert "works" not in features["zswap"]
    assert features["ksm"]["works"] is False
    assert features["ksm"]["repair"] == "mend ksm"
    assert "repair" not in features["thp"]
    labs = {one["lab"]: one for one in answer["labs"]}
    assert (labs["quickstart"]["runs"], labs["quickstart"]["missing"]) == (False, ["ksm"])
    assert labs["baseline"]["runs"] is True


def test_too_little_memory_for_a_lab(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Small:
        total = 1 << 30
        available = 700 << 20

    machine.setattr("psutil.virtual_memory", lambda: Small)
    code, out, _ = say(machine, capsys)
    assert code == 0
    assert "  no       quickstart     missing: memory for a lab" in out


def test_deep_without_root_and_sudo_turns_nothing(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.setattr(os, "geteuid", lambda: 1000)
    machine.setattr(shutil, "which", lambda name: None)
    assert main(["doctor", "--deep"]) == 3
    assert "there is no sudo" in capsys.readouterr().err


def test_every_feature_has_plain_words() -> None:
    assert set(diagnosis.TITLES) == set(Feature)
    assert len({title for title, _ in diagnosis.TITLES.values()}) == len(Feature)
