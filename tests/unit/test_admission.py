"""Admission: each sum by itself, what --i-know waives, and that the bundled labs are let in."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.errors import AdmissionError
from memlab.lab.admission import Sums, admit, sums
from memlab.lab.load import bundled, load, loads
from memlab.units import GIB, MIB

FITS = Sums(4 * GIB, 256 * MIB, 256 * MIB, 400 * MIB, 3 * MIB)


def changed(**more: int | bool) -> Sums:
    fields = {name: getattr(FITS, name) for name in FITS.__dataclass_fields__}
    return Sums(**{**fields, **more})


def test_a_lab_that_fits_is_admitted_and_its_sums_are_printed() -> None:
    admit(FITS)
    assert FITS.lines() == (
        "host budget 256.0 MiB ≤ available 4.0 GiB − 512.0 MiB for the host",
        "configured 400.0 MiB + overhead 3.0 MiB ≤ budget 256.0 MiB + swap 256.0 MiB",
    )


@pytest.mark.parametrize(
    ("found", "words", "waived"),
    [
        (changed(available=700 * MIB), "the host would be short of memory", False),
        (changed(reserved=254 * MIB), "reservations 254.0 MiB + overhead 3.0 MiB ≤ budget", False),
        (changed(configured=510 * MIB), "might not fit when nothing is shared", True),
        (changed(strict=True), "configured 400.0 MiB − reserved 0 B ≤ swap 256.0 MiB", True),
        (changed(strict=True, reserved=100 * MIB), "ESX starts no VM", True),
    ],
)
def test_a_sum_that_does_not_hold_is_shown(found: Sums, words: str, waived: bool) -> None:
    with pytest.raises(AdmissionError) as caught:
        admit(found)
    assert words in caught.value.message
    assert caught.value.hint
    if waived:
        admit(found, i_know=True)
    else:
        with pytest.raises(AdmissionError):
            admit(found, i_know=True)


def test_reserving_more_needs_less_swap() -> None:
    admit(changed(strict=True, reserved=144 * MIB))


def test_reservations_and_esx_s_rule_come_from_the_lab() -> None:
    text = """
name: two
host: {memory: 128MiB, swap: {size: 96MiB}}
policy: esxi6
vms: {a: {count: 2, memory: 80MiB, reservation: 50%}}
"""
    found = sums(loads(text).lab, 4 * GIB)
    assert (found.reserved, found.strict) == (80 * MIB, True)
    admit(found)


@pytest.mark.parametrize(
    ("policy", "strict"),
    [("esx15", True), ("esx41", True), ("esxi5", True), ("esxi6", True), ("esx_mine.py:X", False),
     ("best", False)],
)  # fmt: skip
def test_esx_s_rule_is_of_esx_alone(policy: str, strict: bool, tmp_path: Path) -> None:
    """A user's own policy is not ESX because its file is called so."""
    (tmp_path / "esx_mine.py").write_text("class X:\n    def decide(self, view): ...\n")
    text = f"""
name: two
host: {{memory: 128MiB, swap: {{size: 96MiB}}}}
policy: {{name: "{policy}"}}
vms: {{a: {{count: 2, memory: 80MiB}}}}
"""
    lab = loads(text, name=str(tmp_path / "two.memlab.yaml")).lab
    assert sums(lab, 4 * GIB).strict is strict


@pytest.mark.parametrize("lab", bundled(), ids=lambda path: path.stem)
def test_bundled_labs_are_admitted_under_their_own_policy(lab: object) -> None:
    admit(sums(load(str(lab)).lab, 4 * GIB))


def test_quickstart_and_the_contention_labs_are_admitted_under_esx_too() -> None:
    for lab in bundled():
        if lab.stem.startswith(("contention", "quickstart")):
            admit(sums(load(lab, sets=("policy.name=esxi6", "policy.settings={}")).lab, 4 * GIB))
