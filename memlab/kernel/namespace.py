"""Network namespaces: made, entered for a moment, kept by a name, let go.

A namespace lives as long as somebody holds it: a process in it, a descriptor, an open tap of it, or
a name. With the last of them go all links that are in it. This process never leaves its own:
another thread does, which then ends (setns(2) and unshare(2) are a thread's affair).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from memlab.errors import HostError, KernelError

_T = TypeVar("_T")
_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8

_libc: Final = ctypes.CDLL(None, use_errno=True)


def new_namespace() -> int:
    """Descriptor of a fresh network namespace, which has nothing in it. HostError if refused."""

    def leave() -> int:
        if _libc.unshare(_CLONE_NEWNET):
            raise _refused("unshare")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return _elsewhere(leave)


def inside(namespace: int, work: Callable[[], _T]) -> _T:
    """What `work` returns, done in the namespace that the descriptor is of."""

    def enter() -> _T:
        if _libc.setns(namespace, _CLONE_NEWNET):
            raise _refused("setns")
        return work()

    return _elsewhere(enter)


def pin(namespace: int, path: Path) -> None:
    """Give the namespace a name: the empty file `path`, on which it is mounted."""
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError as error:
        hint = f"look whose it is; then: umount {path}; rm {path}"
        raise KernelError(path, "name a network namespace", errno.EEXIST, hint=hint) from error
    source = f"/proc/self/fd/{namespace}".encode()
    if _libc.mount(source, os.fsencode(path), b"none", _MS_BIND, None):
        raise KernelError(path, "mount a network namespace on", ctypes.get_errno())


def unpin(path: Path) -> bool:
    """Take the name away again; the file stays. False if nothing is mounted there."""
    try:
        mounted = path.lstat().st_dev != path.parent.lstat().st_dev
    except (FileNotFoundError, NotADirectoryError):
        return False
    if mounted and _libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW):
        raise KernelError(path, "unmount", ctypes.get_errno())
    return mounted


def _elsewhere(work: Callable[[], _T]) -> _T:
    """What `work` returns or raises.

    Done by a thread that ends with it, or the caller would be in another network after it.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()


def _refused(call: str) -> HostError:
    code = ctypes.get_errno()
    why = os.strerror(code)
    error = HostError(
        f"the kernel gives memlab no network namespace ({call}: {why})",
        hint="run as root, outside of a container; or leave network out of the lab file",
    )
    error.__cause__ = OSError(code, why)
    return error
