"""A policy of the user's own: `policy: ./mine.py:Mine`, a class in a file beside the lab file.

The class needs `decide(view)`. With a `settings_type` (a frozen dataclass of `control.settings`
fields) it has settings like any other. The file is code that runs with memlab's rights: it is as
much trusted as whoever typed `memlab up`, and `up` says so.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from memlab.control.guarded import raised
from memlab.control.sound import is_text
from memlab.control.static import NoSettings
from memlab.errors import MemlabError, UsageError

MARK: Final = ".py:"


def is_user_policy(name: str) -> bool:
    """Whether `name` means a file and a class in it."""
    return MARK in name


def place(name: str, folder: Path) -> tuple[Path, str]:
    """The file, below the folder of the lab file where it is relative, and the class."""
    file, _, word = name.partition(MARK)
    return (folder / f"{file}.py"), word


def fault(name: str, folder: Path) -> tuple[str, str] | None:
    """What is wrong with a user's policy, found without running it: message and fix, or None."""
    path, word = place(name, folder)
    try:
        tree = ast.parse(path.read_text("utf-8"), str(path))
    except OSError as error:
        return (
            f"{path} cannot be read: {error.strerror}",
            "write the path from the lab file's folder",
        )
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        return f"{path} is not Python: {error}", f"mend line {line}" if line else "write Python"
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if word not in classes:
        known = ", ".join(classes) or "no class at all"
        return f"{path} has no class {word!r}", f"it has: {known}"
    own = {node.name for node in classes[word].body if isinstance(node, ast.FunctionDef)}
    if "decide" not in own and not classes[word].bases:
        return f"{word} in {path} has no method decide", "add: def decide(self, view): …"
    return None


def load(name: str, folder: Path) -> Any:
    """The class, its file run; UsageError if that fails."""
    if found := fault(name, folder):
        raise UsageError(found[0], hint=found[1])
    path, word = place(name, folder)
    module_name = f"memlab_user_policy_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None  # it ends in .py and is there
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    with strangers_code(name, folder):
        spec.loader.exec_module(module)
        return getattr(module, word)


@contextmanager
def strangers_code(name: str, folder: Path) -> Iterator[None]:
    """What the code of a user's policy raises becomes one UsageError: place, reason, what to do.

    memlab's own policies are not covered: what they raise is a defect.
    """
    try:
        yield
    except MemlabError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's code: whatever it raises is its own
        if not is_user_policy(name):
            raise
        path, word = place(name, folder)
        message = f"policy {word} in {path} {raised(error, str(path.absolute()))}"
        raise UsageError(message, hint=f"mend {path.name}, then try again") from error


def digest(name: str, folder: Path) -> str:
    """Of the bytes of a user's policy file; empty for memlab's own. UsageError if there is none."""
    if not is_user_policy(name):
        return ""
    path, _ = place(name, folder)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        hint = "write the path from the lab file's folder"
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from None


def settings_type_of(policy: Any) -> type:
    """What declares its settings: its own dataclass, or none at all. UsageError if memlab cannot
    read that."""
    found = getattr(policy, "settings_type", NoSettings)
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        shown = getattr(found, "__name__", repr(found)[:60])
        raise UsageError(
            f"the settings_type of policy {policy.__name__}, {shown}, is not a dataclass",
            hint="write @dataclass(frozen=True) above it",
        )
    if odd := [one.name for one in dataclasses.fields(found) if "kind" not in one.metadata]:
        raise UsageError(
            f"setting {odd[0]!r} of policy {policy.__name__} does not say how it is written",
            hint="make it with percent, duration, size, number, switch or text",
        )
    return found


def must_be_whole(policy: Any, settings_type: type) -> None:
    """Give a policy that has been made its class's name if it has none; UsageError where it lacks
    what a lab needs of it."""
    kind = type(policy)
    if not isinstance(getattr(kind, "name", None), str):
        kind.name = kind.__name__
    if not is_text(policy.name):
        policy.name = kind.__name__
    if not isinstance(policy.settings, settings_type):
        raise UsageError(
            f"the settings of policy {kind.__name__} are of type {type(policy.settings).__name__}",
            hint=f"let its __init__ keep the {settings_type.__name__} that it is given",
        )
    if not callable(getattr(policy, "decide", None)):
        raise UsageError(
            f"policy {kind.__name__} has no method decide", hint="add: def decide(self, view): …"
        )
