from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from memlab.errors import Fault, LabFileError, UsageError
from memlab.lab.codes import CODES
from memlab.lab.load import Loaded, bundled, load, loads, resolve
from memlab.lab.spec import Device
from memlab.lab.yamlfile import read
from memlab.units import GIB, KIB, MIB

HEAD = "name: t\nhost: {memory: 256MiB, swap: {size: 256MiB}}\n"
VM = "vms:\n  web: {memory: 64MiB}\n"


def faults(text: str, sets: tuple[str, ...] = (), **environ: str) -> list[Fault]:
    with pytest.raises(LabFileError) as caught:
        loads(text, sets=sets, environ=environ)
    return list(caught.value.faults)


def one(text: str, sets: tuple[str, ...] = (), **environ: str) -> Fault:
    found = faults(text, sets, **environ)
    assert len(found) == 1, found
    return found[0]


def good(text: str, sets: tuple[str, ...] = (), **environ: str) -> Loaded:
    return loads(text, sets=sets, environ=environ)


def test_defaults_groups_and_entries_merge() -> None:
    lab = good(
        HEAD
        + """
defaults:
  memory: 64MiB
  image: {name: debian, size: 8MiB, zero: 10%}
  workload: {name: toucher, size: 16MiB, args: {levels: [4MiB, 16MiB]}}
  shares: 500
groups:
  big: {memory: 128MiB, image: {size: 16MiB}, shares: 700}
vms:
  web: {count: 2, group: big, shares: 900}
  store: {workload: {size: 32MiB}, limit: 50%}
  other: {workload: scan}
  real: {command: [sleep, "9"]}
"""
    ).lab
    assert [vm.name for vm in lab.vms] == ["web-1", "web-2", "store", "other", "real"]
    web, _, store, other, real = lab.vms
    assert (web.memory, web.image.size, web.image.zero, web.shares) == (
        128 * MIB,
        16 * MIB,
        0.1,
        900,
    )
    assert (web.entry, web.group, store.group) == ("web", "big", None)
    assert store.workload.arguments == {"levels": (4 * MIB, 16 * MIB)}
    assert (store.workload.size, store.limit, store.shares) == (32 * MIB, 32 * MIB, 500)
    assert (other.workload.name, other.workload.args, other.workload.size) == ("scan", {}, 16 * MIB)
    assert (real.command, real.workload.name) == (("sleep", "9"), "idle")
    assert [vm.name for vm in lab.members("web")] == ["web-1", "web-2"]
    assert [vm.name for vm in lab.members("big")] == ["web-1", "web-2"]
    assert [vm.name for vm in lab.members("store")] == ["store"]
    assert len(lab.members("*")) == 5
    assert lab.configured == (128 + 128 + 64 * 3) * MIB
    config = web.config(owner=1, seed=7)
    assert (config.name, config.image.content.zero, config.workload.size) == (
        "web-1",
        0.1,
        16 * MIB,
    )


def test_short_and_long_forms_mean_the_same() -> None:
    short = good(HEAD + "mechanisms: {tps: off}\npolicy: ladder\n" + VM).lab
    long = good(
        HEAD + "mechanisms: {tps: {enabled: false}}\npolicy: {name: ladder, settings: {}}\n" + VM
    ).lab
    assert short == long
    assert not short.mechanisms.tps.enabled
    assert short.measured == (30.0, 60.0)
    assert short.pool == round(25.6 * MIB)
    assert short.host.swap is not None
    assert short.host.swap.device is Device.FILE


def test_yaml_is_1_2_and_anchors_are_free() -> None:
    text = "x-common: &c {memory: 64MiB, content: {compressible: 3:1}}\n" + HEAD
    lab = good(text + "vms:\n  a: *c\n  b: {<<: *c, memory: 32MiB}\n  on: {memory: 8MiB}\n").lab
    assert [(vm.name, vm.memory) for vm in lab.vms] == [
        ("a", 64 * MIB), ("b", 32 * MIB), ("on", 8 * MIB),
    ]  # fmt: skip
    assert lab.vms[1].content.compressible == 3


def test_variables() -> None:
    text = HEAD + "seed: ${SEED:-3}\nvms:\n  web:\n    memory: ${M}\n    count: ${N}\n"
    text += "    command: [echo, $$A, '${N}']\n"
    lab = good(text, M="8MiB", N="2").lab
    assert (lab.seed, len(lab.vms), lab.vms[0].command) == (3, 2, ("echo", "$A", "2"))
    found = faults(text.replace("${N}", "${N:?how many}"), M="")
    assert [(f.code, f.line, f.column) for f in found] == [
        ("ML013", 6, 13),
        ("ML006", 7, 12),
        ("ML006", 8, 26),
    ]
    assert "how many" in found[1].message
    assert one(HEAD + VM + "about: ${", X="1").code == "ML006"
    assert "put it in quotes" in one(HEAD + "vms: {web: {memory: ${M}}}").fix


def test_set_goes_over_the_file() -> None:
    text = HEAD + "mechanisms: {tps: off}\n" + VM + "  db: {memory: 32MiB}\n"
    lab = good(
        text,
        (
            "vms.*.memory=16MiB", "vms.db.workload.name=scan", "mechanisms.tps.pages_to_scan=7",
            "mechanisms.swap=off", "policy.name=ladder", "policy.settings.hysteresis=3%",
            "vms.web.command=[sleep, '3']", "timeline=[{at: 1s, mark: x}]", "timeline.0.at=2s",
        ),
    ).lab  # fmt: skip
    assert [vm.memory for vm in lab.vms] == [16 * MIB, 16 * MIB]
    assert (lab.vms[1].workload.name, lab.vms[0].command) == ("scan", ("sleep", "3"))
    assert (lab.mechanisms.tps.enabled, lab.mechanisms.tps.pages_to_scan) == (False, 7)
    assert not lab.mechanisms.swap.enabled
    assert (lab.policy.name, lab.policy.settings) == ("ladder", {"hysteresis": "3%"})
    assert lab.timeline[0].at == 2


@pytest.mark.parametrize(
    ("text", "code", "words", "fix"),
    [
        ("host.memory=64MB", "ML013", "MB is read as", "write 64MiB"),
        ("vms.wab.memory=64MiB", "ML041", "vms has no 'wab'", "write web"),
        ("host.memry=64MiB", "ML010", "host has no key 'memry'", "write memory"),
        ("host.memory.x=1", "ML040", "has no parts", "set host.memory itself"),
        ("host", "ML040", "no path=value", "write --set path=value"),
        ("vms.web.memory=[", "ML001", "not YAML", "close the bracket"),
        ("timeline.0.at=3s", "ML040", "is a list without 0", "write the whole"),
        ("seed=-1", "ML018", "at least 0", "write a number"),
    ],
)
def test_a_bad_set_is_as_clear_as_a_bad_file(text: str, code: str, words: str, fix: str) -> None:
    fault = faults(HEAD + VM, (text,))[0]
    assert (fault.code, fault.line) == (code, 0)
    assert fault.message.startswith(f"--set {text}: ")
    assert words in fault.message
    assert fault.fix.startswith(fix)


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "words", "fix"),
    [
        ("a: [1", "ML001", 1, 6, "not YAML", "close the bracket"),
        ("\tname: x", "ML001", 1, 1, "\\t", "indent with spaces"),
        (HEAD + VM + "seed: 2\nseed: 3\n", "ML002", 6, 1, "there twice", "line 5"),
        ("[" * 5000, "ML003", 1, 26, "levels deep", ""),
        ("- 1\n", "ML004", 1, 1, "not a map", ""),
        ("", "ML004", 1, 1, "is empty", "memlab init"),
        ("name: \x07", "ML005", 1, 7, "cannot stand", "UTF-8"),
        (HEAD + VM + "about: ${NO}\n", "ML006", 5, 8, "NO is not set", "NO=…"),
        (HEAD + VM + "duraton: 3s\n", "ML010", 5, 1, "no key 'duraton'", "write duration"),
        ("name: t\n" + VM, "ML011", 1, 1, "the file has no host", "memory: 512MiB"),
        (HEAD + "vms:\n  web: {shares: 3}\n", "ML011", 4, 3, "vms.web has no memory", "128MiB"),
        (HEAD + "vms: 3\n", "ML012", 3, 6, "a map is wanted", "key: value"),
        (HEAD + VM + "seed: many\n", "ML012", 5, 7, "a whole number", "whole number"),
        (HEAD + VM + "about: 3\n", "ML012", 5, 8, "text is wanted", "quotes"),
        (HEAD + "vms:\n  web: {memory: 64}\n", "ML013", 4, 17, "no unit", "write 64MiB"),
        (HEAD + "vms:\n  web: {memory: 1GB}\n", "ML013", 4, 17, "1000 or as 1024", "write 1GiB"),
        (HEAD + VM + "duration: 40\n", "ML014", 5, 11, "not a duration", "write 40s"),
        (HEAD + "vms:\n  web: {memory: 9MiB, content: {zero: 0.2}}\n", "ML015", 4, 39, "percentage",
         "write 20%"),
        (HEAD + "mechanisms: {tps: yes}\n" + VM, "ML016", 3, 19, "not a switch", "on or off"),
        (HEAD + "vms:\n  web: {memory: 9MiB, backend: kvm}\n", "ML017", 4, 32,
         "'process' or 'qemu'", "there is: process, qemu"),
        (HEAD + VM + "seed: -1\n", "ML018", 5, 7, "at least 0", ""),
        (HEAD + VM + "sample: {fast: 100Hz}\n", "ML018", 5, 16, "at least 20ms", "write 20ms"),
        (HEAD + "vms:\n  Web: {memory: 9MiB}\n", "ML019", 4, 3, "'Web' cannot be a name", "a-z"),
        (HEAD + "vms: {}\n", "ML020", 3, 6, "empty", "at least one"),
        (HEAD + VM + "seed: .nan\n", "ML021", 5, 7, "not a finite number", "plain number"),
        (HEAD + VM + "timeline: [{mark: x}]\n", "ML022", 5, 12, "neither at nor when", "one of"),
        (HEAD + "vms:\n  web: {memory: 9MiB, content: {zero: 60%, common: 50%}}\n", "ML023", 4, 32,
         "110% together", "100%"),
        (HEAD + "vms:\n  web: {memory: 9MiB, group: a}\n", "ML030", 4, 30, "no group", "remove it"),
        (HEAD + VM + "  web-1: {memory: 9MiB}\n  lab: {memory: 9MiB}\n", "ML031", 6, 3,
         "'lab' would", "otherwise"),
        (HEAD + "vms:\n  w: {memory: 2MiB, count: 2000}\n  v: {memory: 2MiB}\n", "ML032", 3, 1,
         "2,001 VMs", "counts"),
        (HEAD + "vms:\n  w: {memory: 9MiB, workload: {name: scan, size: 10MiB}}\n", "ML033", 4, 50,
         "more than its memory", "10MiB or more"),
        (HEAD + "vms:\n  w: {memory: 9MiB, limit: 4MiB, reservation: 5MiB}\n", "ML034", 4, 47,
         "more than 4.0 MiB", "lower"),
        (HEAD + "vms:\n  w: {memory: 9MiB, workload: {name: scan, args: {wrtes: 3}}}\n", "ML035", 4,
         58, "no setting 'wrtes'", "write writes"),
        ("name: t\nhost: {memory: 256MiB}\nmechanisms: {swap: off}\n" + VM, "ML036", 3, 1,
         "needs slots", "host.swap"),
        (HEAD + "policy: {name: laddr}\n" + VM, "ML037", 3, 16, "'laddr'", "write ladder"),
        (HEAD + "vms:\n  w: {memory: 128MiB, kernel: /boot/x}\n", "ML038", 4, 23,
         "kernel is for QEMU guests", "backend: qemu"),
        (HEAD + VM + "timeline: [{at: 1s, set: {vms.web.balon: 1MiB}}]\n", "ML040", 5, 27, "balon",
         "write vms.web.balloon"),
        (HEAD + VM + "timeline: [{at: 1s, set: {vms.wab.balloon: 1MiB}}]\n", "ML041", 5, 27,
         "'wab'", "write web"),
        (HEAD + VM + "timeline: [{at: 61s, mark: x}]\n", "ML042", 5, 17, "is over", "60s or less"),
        (HEAD + VM + "window: {from: 9s, until: 8s}\n", "ML043", 5, 27, "before it begins", ""),
        (HEAD + VM + "expect: [{name: a, that: 'max(lab.poll) > 1MiB'}]\n", "ML044", 5, 26,
         "no column 'poll'", "write pool"),
        (HEAD + VM + "timeline: [{at: 1s, set: {vms.web.memory: 1MiB}}]\n", "ML045", 5, 27,
         "cannot be changed", "--set"),
        (HEAD + VM + "schema_version: 2\n", "ML050", 5, 17, "version 2", "newer memlab"),
    ],
)  # fmt: skip
def test_each_code(  # noqa: PLR0917  # a table
    text: str, code: str, line: int, column: int, words: str, fix: str
) -> None:
    fault = one(text)
    assert (fault.code, fault.line, fault.column) == (code, line, column)
    assert words in fault.message
    assert fix in fault.fix


def test_every_code_is_tried_here_and_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "lab-file.md").read_text("utf-8")
    here = Path(__file__).read_text("utf-8")
    for code, meaning in CODES.items():
        assert f"| {code} | {meaning} |" in page
        assert f'"{code}"' in here


def test_faults_of_all_stages_come_together_and_in_order() -> None:
    text = """name: Bad Name
host: {memory: 512}
vms:
  web: {memory: 64MiB, wrkload: scan, count: 3}
duration: 10s
timeline:
  - {at: 20s, mark: x}
  - {at: 2s, set: {vms.wob.balloon: 3MiB}}
expect:
  - {name: a, that: "max(lab.saved_shring) > 32"}
policy: laddr
"""
    assert [(f.code, f.line) for f in faults(text)] == [
        ("ML019", 1), ("ML013", 2), ("ML010", 4), ("ML042", 7), ("ML041", 8), ("ML044", 10),
        ("ML037", 11),
    ]  # fmt: skip


def test_one_mistake_is_one_fault() -> None:
    """What follows from a fault is not reported too."""
    text = HEAD + "vms:\n  web: {memory: 64, workload: {name: scan, size: 50MiB}, limit: 50%}\n"
    assert one(text).code == "ML013"
    counted = HEAD + "vms:\n  web: {memory: 8MiB, count: two}\nexpect:\n"
    assert one(counted + "  - {name: a, that: 'max(web-2.free) > 1MiB'}\n").code == "ML012"


def test_a_bomb_of_aliases_costs_nothing() -> None:
    letters = "abcdefghi"
    bomb = "x-a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"x-{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in pairwise(letters)
    )
    assert one(bomb + HEAD + VM).code == "ML003"
    assert one(HEAD + VM + "needs: &n [*n]\n").code == "ML001"


def test_large_and_unreadable_files(tmp_path: Path) -> None:
    assert one("# " + "x" * (1 << 20) + "\n" + HEAD + VM).code == "ML003"
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: t\nabout: caf\xe9\n")
    with pytest.raises(LabFileError) as caught:
        load(path)
    assert [(f.code, f.line, f.column) for f in caught.value.faults] == [("ML005", 2, 11)]
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path / "none.yaml")
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + VM).replace("\n", "\r\n").encode())
    assert load(path).lab.name == "t"


def test_two_thousand_vms(tmp_path: Path) -> None:
    lab = good("name: t\nhost: {memory: 256GiB, swap: {size: 1GiB}}\nvms:\n"
               "  web: {memory: 4MiB, count: 2000}\n").lab  # fmt: skip
    assert (len(lab.vms), lab.vms[-1].name) == (2000, "web-2000")
    assert (lab.host.memory, lab.configured) == (256 * GIB, 2000 * 4096 * KIB)


@pytest.mark.parametrize("path", bundled(), ids=lambda path: path.stem)
def test_bundled_labs_are_valid_and_called_as_their_file(path: Path) -> None:
    assert load(path).lab.name == path.stem
    assert resolve(path.stem) == path
    assert resolve(f"vmspecs/{path.name}").samefile(path)


def test_an_unknown_name_has_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        resolve("quikstart")
    assert caught.value.hint == "did you mean quickstart?"


def test_places_are_those_of_keys_and_values() -> None:
    document = read("a:\n  b: [1, {c: 2}]\n")
    assert document.place(("a", "b"), key=True).column == 3
    assert document.place(("a", "b", 1, "c")).column == 14
    assert document.place(("a", "b", 1, "c", "d")).column == 14


def test_no_code_is_used_that_is_not_in_the_table() -> None:
    folder = Path(__file__).parents[2] / "memlab" / "lab"
    used = {c for path in folder.glob("*.py") for c in re.findall(r'"(ML\d{3})"', path.read_text())}
    assert used == set(CODES)
