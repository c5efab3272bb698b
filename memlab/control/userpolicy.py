"""A policy of the user's own: `policy: ./mine.py:Mine`, a class in a file beside the lab file.

The class needs `decide(view)`. With a `settings_type` (a frozen dataclass of `control.settings`
fields) it has settings like any other. The file is code that runs with memlab's rights: it is as
much trusted as whoever typed `memlab up`, and `up` says so.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any, Final

from memlab.control.static import NoSettings
from memlab.errors import UsageError

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
    try:
        spec.loader.exec_module(module)
        return getattr(module, word)
    except Exception as error:  # a stranger's code: whatever it raises is its own
        raise UsageError(
            f"{path} raised {type(error).__name__}: {error}", hint="mend it"
        ) from error


def settings_type_of(policy: Any) -> type:
    """What declares its settings: its own dataclass, or none at all."""
    found = getattr(policy, "settings_type", NoSettings)
    return found if isinstance(found, type) else NoSettings
