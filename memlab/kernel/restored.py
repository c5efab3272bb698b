"""What a clean-up gave back, what it left to others, and what it could not do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from memlab.errors import RestoreError

NAME: Final = "restored.json"


@dataclass(frozen=True, slots=True)
class Left:
    """Something that somebody else changed while the lab ran, and that was left as they want it.

    `now` is what stands there (None: it is gone), `ours` what the lab had last set, `before`
    what stood there before the lab.
    """

    what: str
    now: str | None
    ours: str
    before: str

    def __str__(self) -> str:
        now = "is gone" if self.now is None else f"is now {self.now}"
        return (
            f"{self.what} {now}, changed by somebody else (lab: {self.ours}, before: {self.before})"
        )


@dataclass(frozen=True, slots=True)
class Failed:
    """Something that could not be given back, and why."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Restored:
    """The outcome of one clean-up; `notes` are facts that are nobody's fault."""

    given_back: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    failed: tuple[Failed, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing of the lab is left. What others changed does not count against it."""
        return not self.failed

    def check(self) -> None:
        """Raise RestoreError that names each thing that is left, unless `ok`."""
        if not self.ok:
            things = "\n".join(f"  {failed}" for failed in self.failed)
            raise RestoreError(
                f"not everything could be given back:\n{things}",
                hint="try again when the reason is gone: memlab clean\n"
                "or give up on it for ever: memlab clean --forget",
            )

    def as_json(self) -> str:
        """One JSON object, as it stands in `restored.json`."""
        return json.dumps({"ok": self.ok, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Restored:
        """What `as_json` wrote. ValueError or KeyError if it did not."""
        data = json.loads(text)
        return cls(
            given_back=tuple(data["given_back"]),
            left=tuple(Left(**left) for left in data["left"]),
            failed=tuple(Failed(**failed) for failed in data["failed"]),
            notes=tuple(data["notes"]),
        )
