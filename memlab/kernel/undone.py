"""What was made half is undone on every way out but the good one, an interrupt too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def undone_on_failure(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` if the body does not reach its end; what stopped it goes on from there."""
    with ExitStack() as stack:
        stack.callback(undo)
        yield
        stack.pop_all()
