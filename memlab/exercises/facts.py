"""What a recording says of the exercise that it is a run of, and its seal.

The facts are in the lab file that was run, under `x-exercise`, and so in the recording's `notes`:
written before the run, by whoever ran it. The seal is written beside the recording when the run has
ended. It shows that a recording was changed afterwards; it cannot show that somebody has used
memlab's own code to make another one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from memlab.exercises.answers import Answers
from memlab.exercises.spec import Stage
from memlab.exercises.student import places, rendered

SEAL: Final = "seal.json"
NOTE: Final = "exercise"


def facts_of(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a recording's manifest: exercise, stage, run, student, seed, predictions. {} if none."""
    notes = manifest.get("notes")
    found = notes.get(NOTE) if isinstance(notes, dict) else None
    return found if isinstance(found, dict) else {}


def facts(
    exercise: str, *, stage: Stage, number: int, run: str, answers: Answers,
    numbers: Mapping[str, str], files: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """For the lab file of one run; stages count from 1. `files` are those beside it, by name."""
    predictions = [
        {
            "name": one.name,
            "ask": rendered(one.ask.in_(answers.language), numbers),
            "given": answers.predictions[one.name].text,
            # What compares runs cannot be told of this one alone.
            "is": rendered(one.is_, numbers) if {*places(one.is_)} <= {*numbers} else "",
        }
        for one in stage.predict
        if one.name in answers.predictions and stage.chosen(one.run) == run
    ]
    return {
        "exercise": exercise,
        "stage": number,
        "run": run,
        "student": answers.student,
        "seed": int(numbers["seed"]),
        "predictions": predictions,
        "files": {name: digest(text) for name, text in files.items()},
    }


def digest(text: str) -> str:
    """By which a file that was handed out is known again."""
    return hashlib.sha256(text.encode()).hexdigest()


def seal(recording: Path, student: str, seed: int) -> None:
    """Write the seal of a finished recording beside it."""
    data = recording.read_bytes()
    made = {"sha256": hashlib.sha256(data).hexdigest(), "seal": sealed(data, student, seed)}
    recording.with_name(SEAL).write_text(json.dumps(made) + "\n")


def sealed(data: bytes, student: str, seed: int) -> str:
    """The seal of these bytes for this student's copy."""
    key = f"memlab exercise {seed} {student}".encode()
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def broken_seal(data: bytes, note: Mapping[str, Any], student: str, seed: int) -> str:
    """Why the seal does not hold, or nothing."""
    if not note:
        return "it has no seal: it was not made by memlab exercise run, or was broken off"
    if note.get("sha256") != hashlib.sha256(data).hexdigest():
        return "it was changed after its run"
    if not hmac.compare_digest(str(note.get("seal", "")), sealed(data, student, seed)):
        return "its seal is another student's"
    return ""


def names(stages: Sequence[Stage]) -> list[tuple[int, str]]:
    """Stage and name of every run of an exercise, in order."""
    return [(number, run) for number, stage in enumerate(stages, 1) for run in stage.runs]
