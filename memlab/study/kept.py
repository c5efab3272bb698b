"""A run's figures in a file of their own: of kilobytes, where the recording is of megabytes.

Recordings may then be thrown away, and what a comparison took hours to measure can be kept, sent,
or held under version control.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from memlab.errors import MemlabError
from memlab.study.measured import Measured

KEPT: Final = "measured.json"
"""Name of the file in a job's folder."""


@cache
def _form() -> TypeAdapter[Measured]:
    return TypeAdapter(Measured)


def write(folder: Path, run: Measured) -> Path:
    """The figures into `folder`, whole or not at all; the file's path."""
    path = folder / KEPT
    half = path.with_suffix(".part")
    half.write_bytes(_form().dump_json(run, indent=1) + b"\n")
    return half.replace(path)


def read(folder: Path) -> Measured | None:
    """The figures of `folder`, None if it has none. MemlabError if they cannot be understood."""
    path = folder / KEPT
    try:
        return _form().validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not(path, os.strerror(error.errno or 0)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _not(path, f"{place}: {first['msg']}" if place else first["msg"]) from error


def _not(path: Path, why: str) -> MemlabError:
    return MemlabError(
        f"{path} does not hold a run's figures: {why}",
        hint="remove it: the run is read from its recording, or made anew",
    )
