"""Somebody else on the host whose pages KSM merges too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from memlab.kernel import ksm
from memlab.kernel.files import HOST, read_int

_SCRIPT = """
import mmap, sys, time
size = int(sys.argv[1])
area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(12)  # MADV_MERGEABLE
for offset in range(0, size, 4096):
    area[offset:offset + 4096] = b"somebody else's page".ljust(4096, b".")
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def foreign_pages(size: int) -> Iterator[None]:
    """A process with `size` bytes of equal mergeable pages, while this lasts.

    Its merges are pruned after it has ended: ksmd would count them for ever, and the next test
    would find the host changed.
    """
    before = read_int(HOST.ksm / "pages_shared") or 0
    other = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin
    assert other.stdout
    try:
        assert other.stdout.readline() == b"ready\n"
        yield
    finally:
        other.stdin.close()
        other.stdout.close()
        other.wait(10)
        ksm.prune(until_pages_shared=before)
