"""Work in a child: what comes back, and that nobody waits for ever."""

from __future__ import annotations

import errno
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from memlab.kernel.child import in_child, write_once


def fail(code: int) -> None:
    raise OSError(code, "as asked")


def test_done() -> None:
    outcome = in_child(lambda: None, timeout=5)
    assert outcome.done and outcome.seconds < 5


@pytest.mark.parametrize("code", [errno.EBUSY, errno.ENOMEM, errno.EINVAL])
def test_the_kernels_word_comes_back(code: int) -> None:
    assert in_child(partial(fail, code), timeout=5).errno == code


def test_a_deadline_is_kept() -> None:
    begin = time.monotonic()
    outcome = in_child(lambda: time.sleep(60), timeout=0.1)
    assert outcome.errno == errno.ETIMEDOUT
    assert time.monotonic() - begin < 5


def test_a_killed_child_was_interrupted() -> None:
    outcome = in_child(lambda: os.kill(os.getpid(), signal.SIGKILL), timeout=5)
    assert outcome.errno == errno.EINTR


def test_signals_do_not_reach_the_work(tmp_path: Path) -> None:
    done = tmp_path / "done"

    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        done.touch()

    assert in_child(work, timeout=5).done and done.exists()


def test_no_descriptor_of_the_parent_is_held(tmp_path: Path) -> None:
    held = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    try:
        assert in_child(lambda: os.fstat(held), timeout=5).errno == errno.EBADF
    finally:
        os.close(held)


def test_write_once_raises_what_the_kernel_says(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    assert in_child(partial(write_once, missing, b"1"), timeout=5).errno == errno.ENOENT
