"""A submission: one zip file with answers, lab files, recordings, their seals, and the facts.

A teacher gets such files from strangers: an archive is read with bounds on its size and count,
members are taken by name only, and nothing is ever unpacked to a path that the archive chooses.
"""

from __future__ import annotations

import hashlib
import json
import platform
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from memlab.errors import UsageError
from memlab.exercises import answers as answering
from memlab.exercises.facts import SEAL
from memlab.exercises.folder import GIVEN, Folder

SUFFIX: Final = ".memlab-submission.zip"
FACTS: Final = "submission.json"
_MOST_FILES: Final = 64
_MOST_BYTES: Final = 256 * 1024**2
"""Of one archive, unpacked."""
_DAMAGE: Final = (
    *(OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError),
    *(zlib.error, struct.error),
)
"""What zipfile raises on damaged, encrypted and foreign archives."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What was handed in: the facts, answers.yaml's text, and the recordings, on disk for now."""

    facts: Mapping[str, Any]
    answers: str
    recordings: Mapping[tuple[int, str], Path]
    seals: Mapping[tuple[int, str], Mapping[str, Any]]


class SubmissionError(UsageError):
    """A file that is no submission, or a damaged or tampered one."""


def pack(folder: Folder, target: Path) -> Path:
    """Write the folder's submission to `target`. UsageError if nothing has been run."""
    runs = folder.recordings()
    if not runs:
        raise UsageError("nothing has been run yet", hint="memlab exercise run")
    files = {answering.FILE: (folder.path / answering.FILE).read_bytes()}
    for stage in folder.lesson.exercise.stages:
        files[f"lab/{stage.lab}"] = folder.lab(stage.lab).encode()
    for name in folder.lesson.exercise.files:
        files[f"lab/{name}"] = folder.lab(name).encode()
    for (stage_number, run), path in runs.items():
        name = f"runs/{stage_number}-{run}"
        files[f"{name}.sqlite"] = path.read_bytes()
        if path.with_name(SEAL).is_file():
            files[f"{name}.seal.json"] = path.with_name(SEAL).read_bytes()
    facts = _facts(folder, files)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(FACTS, json.dumps(facts, ensure_ascii=False, indent=1))
        for name, data in files.items():
            archive.writestr(name, data)
    return target


def _facts(folder: Folder, files: Mapping[str, bytes]) -> dict[str, Any]:
    state = folder.state
    return {
        "schema_version": 1,
        "exercise": folder.lesson.name,
        "student": folder.answers.student,
        "seed": folder.seed,
        "memlab": metadata.version("memlab"),
        "machine": {"kernel": platform.release(), "machine": platform.machine()},
        "hints": int(state.get("hints", 0)),
        "solution_read": bool(state.get("solution", False)),
        "given": int(state.get(GIVEN, 0)),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }


@contextmanager
def opened(path: Path) -> Iterator[Submission]:
    """The submission in `path`; its recordings lie in a temporary folder meanwhile.

    Raises SubmissionError with the one thing that is wrong with it.
    """
    with TemporaryDirectory(prefix="memlab-") as made:
        yield _read(path, Path(made))


def _read(path: Path, place: Path) -> Submission:
    try:
        with zipfile.ZipFile(path) as archive:
            files = _members(archive)
    except _DAMAGE as error:
        raise SubmissionError(f"it cannot be read: {error}") from None
    facts = _json(files.get(FACTS, b""))
    if not isinstance(facts.get("files"), dict):
        raise SubmissionError(f"it is no submission: {FACTS} is missing or damaged")
    for name, digest in facts["files"].items():
        if hashlib.sha256(files.get(name, b"")).hexdigest() != digest:
            raise SubmissionError(f"{name} is not as it was handed in")
    recordings: dict[tuple[int, str], Path] = {}
    seals: dict[tuple[int, str], Mapping[str, Any]] = {}
    for name, data in files.items():
        key = _run_of(name)
        if key is not None and name in facts["files"]:
            target = place / f"{len(recordings)}.sqlite"
            target.write_bytes(data)
            recordings[key] = target
            seals[key] = _json(files.get(name.replace(".sqlite", ".seal.json"), b""))
    try:
        answers = files.get(answering.FILE, b"").decode()
    except UnicodeDecodeError:
        raise SubmissionError(f"{answering.FILE} is not UTF-8") from None
    return Submission(facts, answers, recordings, seals)


def _members(archive: zipfile.ZipFile) -> dict[str, bytes]:
    infos = archive.infolist()
    size = sum(info.file_size for info in infos)
    if len(infos) > _MOST_FILES or size > _MOST_BYTES:
        raise SubmissionError(f"it is too large: {len(infos)} files, {size >> 20} MiB")
    return {info.filename: archive.read(info) for info in infos if not info.is_dir()}


def _run_of(name: str) -> tuple[int, str] | None:
    """Stage and run of `runs/1-slow.sqlite`."""
    head, _, file = name.partition("/")
    stage, _, run = file.removesuffix(".sqlite").partition("-")
    if head != "runs" or not file.endswith(".sqlite") or not stage.isdigit() or "/" in run:
        return None
    return int(stage), run


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
