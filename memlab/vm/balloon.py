"""What a virtio balloon has given back: pages that it holds, and those of them that were backed.

The guest's driver does not tell which frames it took, and a page that the guest had never touched
costs the host nothing. So the host's own page tables are counted before and after: what is no more
backed when the balloon has grown was backed before it did. The guest may touch other pages
meanwhile, so it is a lower bound, of seldom more than 1 %.
"""

from __future__ import annotations

from collections.abc import Callable


class Balloon:
    """The books of one VM's balloon, bytes. `backed_now` counts guest pages that the host keeps."""

    def __init__(self, memory: int, backed_now: Callable[[], int]) -> None:
        self._memory = memory
        self._backed_now = backed_now
        self._seen = 0
        self.target = 0
        self.held = 0
        self.backed = 0

    def ask(self, target: int, actual: int) -> None:
        """A new target is about to be told to the guest, whose size is `actual` now."""
        self.settle(actual)
        self.target = target

    def settle(self, actual: int) -> bool:
        """The guest has now `actual` bytes; whether the balloon has moved."""
        held, kept = self._memory - actual, self._backed_now()
        moved = held != self.held
        if held > self.held:
            self.backed = min(self.backed + max(self._seen - kept, 0), held)
        elif held < self.held:
            # Which of its pages a balloon gives back first is not told: each kind in proportion.
            self.backed = round(self.backed * held / self.held)
        self.held, self._seen = held, kept
        return moved

    @property
    def settled(self) -> bool:
        """Whether it has reached its target."""
        return self.held == self.target
