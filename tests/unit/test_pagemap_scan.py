"""PAGEMAP_SCAN's answers put together, from an ioctl that a test plays."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from pathlib import Path

import pytest

from memlab.errors import KernelError
from memlab.kernel.pagemap_scan import REQUEST, Category, PageRun, Scanner, Unsupported

PAGE = 4096
ARGUMENT = struct.Struct("=12Q")


class Ioctl:
    """Writes runs into the vector, and a walk_end that nobody may trust."""

    def __init__(self, runs: list[tuple[int, int]]) -> None:
        self.runs = [(start * PAGE, end * PAGE) for start, end in runs]
        self.calls = 0

    def __call__(self, _fd: int, request: int, argument: bytearray) -> int:
        assert request == REQUEST and len(argument) == 96
        self.calls += 1
        size, _, start, end, _, vector, length, *_, anyof, wanted = ARGUMENT.unpack(argument)
        assert size == 96 and anyof == wanted
        found = [
            (max(first, start), min(last, end), anyof)
            for first, last in self.runs
            if first < end and last > start
        ][:length]
        answer = struct.pack(f"={3 * len(found)}Q", *(word for run in found for word in run))
        ctypes.memmove(vector, answer, len(answer))
        return len(found)


@pytest.mark.parametrize("vector", [1, 2, 3, 512])
def test_no_run_is_missed_or_met_twice(monkeypatch: pytest.MonkeyPatch, vector: int) -> None:
    runs = [(1, 2), (3, 9), (11, 12), (15, 16), (20, 40)]
    monkeypatch.setattr(fcntl, "ioctl", Ioctl(runs))
    scanner = Scanner(-1, vector=vector)
    found = scanner.runs(0, 64 * PAGE, Category.PRESENT)
    assert found == [PageRun(a * PAGE, b * PAGE, Category.PRESENT) for a, b in runs]
    assert scanner.count(0, 64 * PAGE, Category.PRESENT) == 1 + 6 + 1 + 1 + 20


def test_one_call_is_enough_if_the_vector_was_not_full(monkeypatch: pytest.MonkeyPatch) -> None:
    ioctl = Ioctl([(1, 2), (3, 4)])
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert Scanner(-1, vector=3).count(0, 9 * PAGE, Category.SWAPPED) == 2
    assert ioctl.calls == 1


def test_runs_that_do_not_ascend_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(_fd: int, _request: int, argument: bytearray) -> int:
        vector = ARGUMENT.unpack(argument)[5]
        ctypes.memmove(vector, struct.pack("=3Q", 0, 0, 8), 24)
        return 1

    monkeypatch.setattr(fcntl, "ioctl", stuck)
    with pytest.raises(KernelError, match="PAGEMAP_SCAN"):
        Scanner(-1, vector=1).count(PAGE, 9 * PAGE, Category.PRESENT)


def test_a_file_without_the_ioctl(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with (tmp_path / "f").open() as file, pytest.raises(Unsupported):
        Scanner(file.fileno()).runs(0, PAGE, Category.PRESENT)


@pytest.mark.parametrize(("code", "count"), [(errno.ESRCH, 0), (errno.EFAULT, None)])
def test_the_kernels_other_answers(
    monkeypatch: pytest.MonkeyPatch, code: int, count: int | None
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, "as asked")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    if count is None:
        with pytest.raises(KernelError):
            Scanner(-1).count(0, PAGE, Category.PRESENT)
    else:
        assert Scanner(-1).count(0, PAGE, Category.PRESENT) == count
