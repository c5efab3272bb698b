"""Pressure: totals, and what is absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from memlab.errors import KernelError
from memlab.kernel import psi
from memlab.kernel.files import Roots
from tests.captured import HYBRID


def test_both_totals() -> None:
    raw = (
        b"some avg10=1.53 avg60=1.87 avg300=1.73 total=1088168194\n"
        b"full avg10=0.00 avg60=0.13 avg300=0.02 total=51\n"
    )
    assert psi.parse(raw) == psi.Pressure(1088168194, 51)


def test_the_cpu_file_of_old_kernels_has_no_full_line() -> None:
    assert psi.parse(b"some avg10=0.00 total=7\n") == psi.Pressure(7, None)
    assert psi.parse(b"") == psi.Pressure(None, None)


def test_the_hosts_file() -> None:
    assert psi.read_host(HYBRID) == psi.Pressure(0, 0)


def test_no_file_is_absent(tmp_path: Path) -> None:
    assert psi.read_host(Roots(proc=tmp_path)) is None


@pytest.mark.parametrize(("code", "absent"), [(errno.EOPNOTSUPP, True), (errno.EIO, False)])
def test_switched_off_is_absent_and_all_else_is_an_error(
    monkeypatch: pytest.MonkeyPatch, code: int, absent: bool
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, "as asked")

    monkeypatch.setattr(os, "read", refuse)
    if absent:
        assert psi.read_host(HYBRID) is None
    else:
        with pytest.raises(KernelError):
            psi.read_host(HYBRID)
