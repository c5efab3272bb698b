"""The model held against the bundled recording, and what the command prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import memlab.report
from memlab.cli.main import main
from memlab.errors import RecordingError, UsageError
from memlab.lab.load import load, loads, resolve
from memlab.record.derive import Derived
from memlab.simulate.against import QUANTITIES, Held, against
from memlab.simulate.recorded import lab_of, pool_charged
from memlab.simulate.table import held_figures, held_table
from tests.recordings import build

EXAMPLE = Path(memlab.report.__file__).parent / "example.memlab"
BOUNDS = {
    "machine memory used": 0.02,
    "resident": 0.06,
    "ballooned": 0.02,
    "saved by sharing": 0.25,
    "saved by the balloon": 0.02,
    "saved by compression": 0.25,
    "saved by swap": 0.12,
    "operations": 0.01,
}
"""Largest errors of the means; docs/simulate.md has what they are."""


@pytest.fixture(scope="module")
def held() -> Held:
    with Derived.open(EXAMPLE, check=False) as source:
        return against(source, folder=EXAMPLE.parent)


def test_the_model_follows_the_recording_as_far_as_the_docs_say(held: Held) -> None:
    assert {line.quantity.name for line in held.lines} == set(BOUNDS)
    for line in held.lines:
        assert line.error is not None
        assert abs(line.error) <= BOUNDS[line.quantity.name], line.quantity.name


def test_the_real_side_is_the_recordings_own(held: Held) -> None:
    with Derived.open(EXAMPLE, check=False) as source:
        start, end = source.window
    assert held.window == (start, end)
    used = held.lines[0].real
    assert used is not None
    assert used / 2**20 == pytest.approx(344.5, abs=0.5)


def test_the_error_is_of_the_means_and_apart_of_the_samples(held: Held) -> None:
    for line in held.lines:
        assert line.real is not None
        assert line.error == pytest.approx((line.model - line.real) / line.real)
        assert line.apart is not None
        assert line.apart >= abs(line.model - line.real) / 2 - 2**20


def test_nothing_of_the_recording_but_its_lab_reaches_the_model(held: Held) -> None:
    """The same lab, simulated without the recording, has the very same means."""
    from memlab.simulate.fleet import places
    from memlab.simulate.run import run

    with Derived.open(EXAMPLE, check=False) as source:
        loaded, seed = lab_of(source.manifest, EXAMPLE.parent), source.manifest["seed"]
        assert source.manifest["cgroup"] == "hybrid", "its memory controller is on v1"
    where = places(loaded.lab, vms=None, hosts=1, seed=seed)
    moments = [
        one
        for one in run(loaded.lab, where, seed=seed, keep=True, pool_charged=False).moments
        if held.window[0] <= one.time <= held.window[1]
    ]
    for quantity, line in zip(QUANTITIES, held.lines, strict=True):
        assert sum(map(quantity.of, moments)) / len(moments) == pytest.approx(line.model)


def test_a_recording_without_its_lab_file_is_refused(tmp_path: Path) -> None:
    with (
        Derived.open(build(tmp_path, seconds=3), check=False) as source,
        pytest.raises(RecordingError, match="does not hold its lab file"),
    ):
        against(source, folder=tmp_path)


def test_what_was_set_for_the_run_is_taken_from_the_manifest() -> None:
    manifest: dict[str, Any] = {
        "source": load(resolve("quickstart")).source,
        "policy": {
            "name": "ladder", "settings": {"step": "5%"}, "period": 0.25, "time_scale": 10.0,
            "size_scale": 16.0,
        },
        "budget": 300 * 2**20,
        "pool_cap": 20 * 2**20,
        "mechanisms": {"balloon": {"enabled": False}, "swap": {"enabled": True}},
        "plan": ["/sys/kernel/mm/ksm/pages_to_scan: 100 → 77 (pace of page sharing)"],
        "vms": [
            {
                "name": "web-1", "configured": 128 * 2**20, "shares": 5,
                "image": {"zero": 0.5, "common": 0.0, "compressible": 1.0, "name": "x", "size": 0},
                "workload": {"name": "scan", "size": 2**20, "content": None, "args": {"rate": 3}},
            }
        ],
    }  # fmt: skip
    lab = lab_of(manifest, Path()).lab
    assert lab.policy.settings == {"step": "5%"}
    paces = (lab.policy.period, lab.policy.time_scale, lab.policy.size_scale)
    assert paces == (0.25, 10.0, 16.0)
    assert (lab.host.memory, lab.pool) == (300 * 2**20, 20 * 2**20)
    assert not lab.mechanisms.balloon.enabled
    assert lab.mechanisms.swap.enabled
    assert lab.mechanisms.tps.pages_to_scan == 77
    first, second = lab.vms[:2]
    assert (first.memory, first.shares, first.image.name) == (128 * 2**20, 5, "x")
    assert first.workload.arguments == {"rate": 3}
    assert second.memory == 160 * 2**20


@pytest.mark.parametrize(
    ("layout", "charged"),
    [
        ({"cgroup": "v2"}, True),
        ({"cgroup": "v1"}, False),
        ({"cgroup": "hybrid"}, False),
        ({}, False),
    ],
)
def test_who_pays_for_the_pool_is_taken_from_the_manifest(
    layout: dict[str, str], charged: bool
) -> None:
    assert pool_charged(layout) is charged


def test_the_paces_of_a_run_in_slow_motion_are_not_stretched_twice() -> None:
    """At twice the time a period of 500 ms is 1 s, and a time_scale of 10 is 5."""
    source = load(resolve("contention-hot")).source
    manifest: dict[str, Any] = {
        "source": source, "time_scale": 2.0,
        "policy": {"name": "ladder", "period": 1.0, "time_scale": 5.0, "size_scale": 16.0},
    }  # fmt: skip
    plain, lab = loads(source).lab, lab_of(manifest, Path()).lab
    assert lab.duration == 2 * plain.duration
    assert (lab.policy.period, lab.policy.time_scale) == (1.0, 5.0)
    without = {"source": source, "policy": {"name": "ladder"}}
    policy = lab_of(without, Path()).lab.policy
    assert (policy.period, policy.time_scale) == (plain.policy.period, plain.policy.time_scale)


@pytest.mark.parametrize("value", ["fast", True, 0, -1.0, float("nan")])
def test_a_pace_that_cannot_be_is_refused(value: Any) -> None:
    manifest = {
        "source": load(resolve("quickstart")).source,
        "policy": {"name": "ladder", "period": value},
    }
    with pytest.raises(RecordingError, match="has a period of"):
        lab_of(manifest, Path())


@pytest.mark.parametrize(
    "manifest",
    [
        {"source": "name: x\n", "policy": {"name": "./mine.py:Mine"}},
        {"source": load(resolve("quickstart")).source.replace("ladder", "./mine.py:Mine")},
    ],
)
def test_no_code_is_run_that_a_recording_names(tmp_path: Path, manifest: dict[str, Any]) -> None:
    ran = tmp_path / "ran"
    code = f"""
open({str(ran)!r}, 'w').close()
class Mine:
    def decide(self, view):
        pass
"""
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(UsageError, match="no code is run that a recording names"):
        lab_of(manifest, tmp_path)
    assert not ran.exists()


def test_the_command_prints_a_line_for_each_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "quickstart", "--policy", "none,best", "--seconds", "6"]) == 0
    out = capsys.readouterr().out
    assert "4 VMs on 1 host" in out
    assert "\nnone " in out
    assert "\nbest " in out
    assert "none: did not act" in out


def test_the_scales_stand_in_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "contention-hot", "--seconds", "2", "--policy", "none"]
    assert main(words) == 0
    assert "time_scale 10, size_scale 16" in capsys.readouterr().out
    assert main([*words, "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["time_scale"], found["size_scale"]) == (10, 16)


def test_the_scales_stand_above_what_is_held_against_a_recording(held: Held) -> None:
    assert "time_scale 1, size_scale 1" in str(held_table(held).title)
    found = held_figures(held)
    assert (found["time_scale"], found["size_scale"]) == (1, 1)


def test_the_command_simulates_a_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "contention-hot", "--vms", "200", "--hosts", "4", "--seconds", "4"]
    assert main([*words, "--seed", "5", "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["vms"], found["hosts"], found["seed"]) == (200, 4, 5)
    (row,) = found["rows"]
    assert 0 < row["work"] <= 1.0001
    assert 0 < row["fairness"] <= 1.0001
    assert set(row["saved"]) == {"sharing", "balloon", "compression", "swap"}


def test_the_command_goes_on_with_the_lab_of_the_recording(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["simulate", "--against", str(EXAMPLE), "--seconds", "3", "--tick", "0.1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.index("machine memory used, MiB") < out.index("quickstart, simulated")
    assert main([*words, "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["against"]["quantities"][0]["name"] == "machine memory used"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate"], "name a LAB, or a recording"),
        (["simulate", "quickstart", "--policy", "bset"], "no policy is called 'bset'"),
        (["simulate", "quickstart", "--hosts", "9"], "cannot stand on 9 hosts"),
        (["simulate", "quickstart", "--vms", "0"], "--vms"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err
