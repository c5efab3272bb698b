"""What makes an exercise a student's own: the seed from the name, and the numbers from the seed."""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from memlab.errors import UsageError
from memlab.exercises.spec import Exercise

_PLACE: Final = re.compile(r"\{\{\s*([a-z0-9][a-z0-9_-]*)\s*\}\}")
_LONGEST: Final = 80
SEED: Final = "seed"
"""`{{seed}}`: for the lab file."""


def known_as(name: str) -> str:
    """The student's name as all of memlab writes it. UsageError if it is none."""
    plain = " ".join(unicodedata.normalize("NFC", name).split())
    if not plain or len(plain) > _LONGEST or not plain.isprintable():
        raise UsageError(
            f"{name!r} cannot be a name",
            hint=f'give yours, of at most {_LONGEST} characters: --name "Ada Lovelace"',
        )
    return plain


def seed_of(student: str, exercise: str) -> int:
    """The seed of this student's copy of the exercise: 31 bits of a SHA-256 of both names."""
    text = f"{known_as(student).casefold()}\n{exercise}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def numbers_of(exercise: Exercise, seed: int) -> dict[str, str]:
    """This seed's choice of each number, and the seed itself, as they are written."""
    chance = random.Random(seed)
    chosen = {name: str(chance.choice(number.of)) for name, number in exercise.numbers.items()}
    return {**chosen, SEED: str(seed)}


def rendered(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `{{name}}` replaced. KeyError: nothing is called so."""
    return _PLACE.sub(lambda match: values[match[1]], text)


def places(text: str) -> list[str]:
    """The names in `text` that are to be filled in."""
    return _PLACE.findall(text)
