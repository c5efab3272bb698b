"""What pushing memory out says when the kernel will not."""

from __future__ import annotations

import ctypes
import errno
from typing import Any

import pytest

from memlab.errors import HostError, KernelError
from memlab.kernel import madvise
from memlab.kernel.madvise import MADV_COLD, MADV_PAGEOUT, PIECE, cold, pageout


class Kernel:
    """Answers process_madvise with what a test says, and remembers how much was asked for."""

    def __init__(self, code: int = 0, at_most: int = PIECE) -> None:
        self.code = code
        self.at_most = at_most
        self.asked: list[tuple[int, int]] = []
        self.advice: set[int] = set()

    def syscall(
        self, _number: int, _pidfd: int, vector: Any, _count: object, advice: int, _flags: int
    ) -> int:
        self.advice.add(advice)
        span = vector._obj  # what byref() points at
        if self.code:
            ctypes.set_errno(self.code)
            return -1
        self.asked.append((span.base, span.length))
        return min(int(span.length), self.at_most)


def kernel(monkeypatch: pytest.MonkeyPatch, fake: Kernel) -> Kernel:
    monkeypatch.setattr(madvise, "_libc", fake)
    return fake


def test_it_goes_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, Kernel())
    assert pageout(3, 0x1000, 2 * PIECE + 4096) == 2 * PIECE + 4096
    assert fake.asked == [
        (0x1000, PIECE),
        (0x1000 + PIECE, PIECE),
        (0x1000 + 2 * PIECE, 4096),
    ]


def test_each_gives_its_own_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, Kernel())
    assert pageout(3, 0, 4096) == 4096 and fake.advice == {MADV_PAGEOUT}
    fake.advice.clear()
    assert cold(3, 0, 4096) == 4096 and fake.advice == {MADV_COLD}


def test_a_short_answer_is_gone_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, Kernel(at_most=8192))
    assert pageout(3, 0, 20480) == 20480
    assert [start for start, _ in fake.asked if start] == [8192, 16384]


@pytest.mark.parametrize("code", [errno.ESRCH, errno.ENOMEM])
def test_a_process_that_ended_is_no_fault(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    kernel(monkeypatch, Kernel(code))
    assert pageout(3, 0, 4096) == 0


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSYS, HostError), (errno.EPERM, HostError), (errno.EINVAL, KernelError)],
)
def test_all_else_is(
    monkeypatch: pytest.MonkeyPatch, code: int, error: type[HostError | KernelError]
) -> None:
    kernel(monkeypatch, Kernel(code))
    with pytest.raises(error):
        pageout(3, 0, 4096)
    with pytest.raises(error):
        cold(3, 0, 4096)
