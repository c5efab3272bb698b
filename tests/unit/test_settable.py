from __future__ import annotations

from typing import Any

import pytest

from memlab.lab.load import loads
from memlab.lab.model import type_at
from memlab.lab.settable import SettingError, SettingKind, parse_setting, settable
from memlab.lab.spec import WorkloadSpec
from memlab.lab.values import Amount
from memlab.units import MIB

LAB = loads(
    """name: t
host: {memory: 256MiB, swap: {size: 256MiB}}
policy: ladder
groups: {big: {memory: 128MiB}}
vms:
  web: {count: 2, memory: 64MiB}
  db: {group: big}
  real: {memory: 8MiB, command: [sleep, "9"]}
"""
).lab


@pytest.mark.parametrize(
    ("path", "value", "kind", "vms", "read"),
    [
        ("vms.web-1.balloon", "16MiB", "balloon", ("web-1",), Amount(size=16 * MIB)),
        ("vms.web.balloon", "25%", "balloon", ("web-1", "web-2"), Amount(fraction=0.25)),
        ("vms.big.free", "8MiB", "free", ("db",), Amount(size=8 * MIB)),
        ("vms.*.reclaim", "1MiB", "reclaim", ("web-1", "web-2", "db", "real"), Amount(size=MIB)),
        ("vms.db.limit", "50%", "limit", ("db",), Amount(fraction=0.5)),
        ("vms.db.reservation", "0B", "reservation", ("db",), Amount(size=0)),
        ("vms.db.shares", 300, "shares", ("db",), 300),
        ("vms.db.cgroup.high", "25%", "cgroup", ("db",), Amount(fraction=0.25)),
        ("vms.db.cgroup.zswap_writeback", "off", "cgroup", ("db",), False),
        (
            "vms.db.workload",
            "scan",
            "workload",
            ("db",),
            WorkloadSpec.model_validate({"name": "scan"}),
        ),
        ("mechanisms.tps", "off", "tps-enabled", (), False),
        ("mechanisms.tps.enabled", True, "tps-enabled", (), True),
        ("mechanisms.tps.pages_to_scan", 5000, "tps-pages-to-scan", (), 5000),
        ("mechanisms.tps.sleep", "10ms", "tps-sleep", (), 0.01),
        ("mechanisms.compression.enabled", "on", "compression-enabled", (), True),
        ("host.memory", "128MiB", "budget", (), 128 * MIB),
        ("policy.settings.hysteresis", "3%", "policy", (), 0.03),
        ("policy.hysteresis", "3%", "policy", (), 0.03),
    ],
)
def test_what_can_be_set(path: str, value: Any, kind: str, vms: tuple[str, ...], read: Any) -> None:
    setting = parse_setting(path, value, LAB)
    assert (setting.kind, setting.vms, setting.value) == (SettingKind(kind), vms, read)
    keys = {"policy": "hysteresis", "cgroup": path.rpartition(".")[2]}
    assert setting.key == keys.get(kind, "")


@pytest.mark.parametrize(
    ("path", "value", "code", "words", "fix"),
    [
        ("vms.wob.balloon", "1MiB", "ML041", "no VM is called 'wob'", "write web"),
        ("vms.web.balon", "1MiB", "ML040", "cannot be set", "write vms.web.balloon"),
        ("vms.web.memory", "1MiB", "ML045", "while the lab runs", "--set"),
        ("vms.web.balloon", 16, "ML013", "no unit", "write 16MiB"),
        ("vms.web.balloon", "65MiB", "ML018", "more than web-1 has", "64MiB or less"),
        ("vms.web.limit", "1K", "ML018", "below 1MiB", "1MiB"),
        ("vms.web.cgroup.hig", "1MiB", "ML040", "cannot be set", "write vms.web.cgroup.high"),
        ("vms.web.cgroup.high", "65MiB", "ML018", "more than web-1 has", "64MiB or less"),
        ("vms.web.shares", "many", "ML018", "not a whole number", "write 1 to"),
        ("vms.web.workload", "scam", "ML017", "must be", "write scan"),
        ("vms.web.workload", {"name": "scan", "args": {"rat": 1}}, "ML035", "rat", "write rate"),
        ("vms.real.workload", "scan", "ML022", "runs a command", "in the file"),
        ("mechanisms.tps.enabled", "maybe", "ML016", "not a switch", "on or off"),
        ("mechanisms.tps.sleep", 20, "ML014", "not a duration", "write 20s"),
        ("mechanisms.balloon", "on", "ML045", "cannot be changed", "--set"),
        ("host.memory", "1KiB", "ML018", "at least 4MiB", "4MiB"),
        ("policy.settings.hysteresi", "3%", "ML037", "no setting", "write hysteresis"),
        ("policy.name", "none", "ML045", "cannot be changed", "--set"),
        ("nothing", 1, "ML040", "cannot be set", ""),
        ("", 1, "ML040", "cannot be set", ""),
    ],
)
def test_what_cannot(path: str, value: Any, code: str, words: str, fix: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_setting(path, value, LAB)
    fault = caught.value.faults[0]
    assert fault.code == code
    assert words in fault.message
    assert fix in fault.fix


def test_the_table_has_live_paths_first_and_the_whole_file_after() -> None:
    rows = settable()
    live = [row.path for row in rows if row.live]
    assert [row.path for row in rows][: len(live)] == live
    assert {"vms.NAME.balloon", "host.memory", "mechanisms.tps.enabled"} <= set(live)
    still = [row.path for row in rows if not row.live]
    assert "vms.NAME.memory" in still
    assert not set(live) & set(still)
    assert all(type_at(tuple(path.split("."))) is not None for path in still)
