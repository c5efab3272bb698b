"""2,000 damaged lab files: each is accepted or refused with faults, and none makes a traceback."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import pytest

from memlab.errors import Fault
from memlab.lab.codes import CODES
from memlab.lab.load import build, bundled
from memlab.lab.yamlfile import Document, read

SEED = 20_240_607
TEXTS = {path.stem: path.read_text("utf-8") for path in bundled()}
TREES = {name: read(text) for name, text in TEXTS.items()}
ODD: tuple[Any, ...] = (
    None, "", "on", "off", True, False, 0, -1, 1, 2**70, 1.5, float("nan"), float("inf"), "x" * 70,
    "64MiB", "64MB", "0B", "99999999TiB", "2s", "-1s", "1e9s", "50%", "150%", "${X}", "${X:-", "$$",
    "${", [], {}, [[]], {"a": {"b": []}}, ["64MiB", None], {"name": "idle"}, {"": ""}, "\x00", "*",
    "lab", "web-1", "max(lab.free)", "((((((", "lab.free < 1MiB", "名", "{message}", "%s",
)  # fmt: skip
SIGNS = "\n\t :-{}[]&*!|>'\"%@`#,?<=$\\\x07é\ufeff0a~"


def hurt_text(text: str, dice: random.Random) -> str:
    """A text of at most 30 lines of the file, damaged in one to three places."""
    lines = text.splitlines(keepends=True)
    start = dice.randrange(max(1, len(lines) - 30)) if dice.random() < 0.5 else 0
    text = "".join(lines[start : start + 30])
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(text) + 1)
        to = min(len(text), at + dice.choice((0, 0, 1, 3, 20)))
        other = dice.randrange(len(text) + 1)
        new = dice.choice(
            ("", dice.choice(SIGNS), dice.choice(SIGNS) * 3, text[other : other + 20], "*x", "&x ",
             "<<: *x", "${HOME", "${UNSET}", " " * dice.randint(1, 9), "? ", "!!int ", '"\\x'),
        )  # fmt: skip
        text = text[:at] + new + text[to:]
    return text


def places(tree: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items: Any = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    below = [found for key, value in items for found in places(value, (*path, key))]
    return [path, *below] if path else below


def hurt_tree(tree: Any, dice: random.Random) -> Any:
    """The tree with one to three parts replaced, removed, renamed or copied elsewhere."""
    tree = deepcopy(tree)
    for _ in range(dice.randint(1, 3)):
        found = places(tree)
        if not found:
            return tree
        *above, last = dice.choice(found)
        at = tree
        for part in above:
            at = at[part]
        deed = dice.randrange(5)
        if deed == 0:
            del at[last]
        elif deed == 1 and isinstance(at, dict):
            at[dice.choice(("x-a", "nme", "", "swap", "host", "*", "a.b", str(last) + "s"))] = (
                at.pop(last)
            )
        elif deed == 2:
            other: Any = tree
            for part in dice.choice(found):
                other = other[part] if _has(other, part) else None
            at[last] = deepcopy(other)
        else:
            at[last] = deepcopy(dice.choice(ODD))
    return tree


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def assert_sound(lab: object, faults: list[Fault]) -> None:
    assert (lab is None) <= bool(faults)
    for fault in faults:
        assert fault.code in CODES
        assert fault.message and fault.fix
        assert (fault.line == 0) == (fault.column == 0)


@pytest.mark.parametrize("part", range(4))
def test_damaged_texts(part: int) -> None:
    dice = random.Random(SEED + part)
    outcomes = {"valid": 0, "refused": 0}
    for _ in range(250):
        text = hurt_text(dice.choice(list(TEXTS.values())), dice)
        lab, faults = build(read(text), environ={"HOME": "/root"})
        assert_sound(lab, faults)
        outcomes["refused" if faults else "valid"] += 1
    assert outcomes["refused"] > 150


@pytest.mark.parametrize("part", range(4))
def test_damaged_trees(part: int) -> None:
    dice = random.Random(SEED - part)
    codes: set[str] = set()
    for _ in range(250):
        whole = TREES[dice.choice(list(TREES))]
        document = Document(hurt_tree(whole.tree, dice), dict(whole.keys), dict(whole.values))
        lab, faults = build(document, environ={})
        assert_sound(lab, faults)
        codes |= {fault.code for fault in faults}
    assert len(codes) > 10
