"""YAML text to a plain tree with the place of every key and value; nothing else knows ruamel.

Only ruamel's event stream is used, and the tree is built here, because that shows every fault of
the text at once, keeps both places, and bounds depth and size: nothing is expanded before it has
been counted, so a file of aliases of aliases costs no more than `MAX_NODES`. Scalars follow YAML
1.2 (`on`, `no` and `22:22` are text).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from memlab.errors import Fault

MAX_BYTES: Final = 1024**2
MAX_DEPTH: Final = 24
MAX_NODES: Final = 100_000

Path = tuple[str | int, ...]
"""Keys and indexes from the top of the file."""

_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_ENDLESS: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_FIXES: Final = (
    ("\\t", "indent with spaces"),
    ("mapping values are not allowed", "indent the lines alike, or put the value in quotes"),
    ("expected <block end>", "begin this line in the column of those above it"),
    ("could not find expected ':'", "write key: value"),
    ("quoted scalar", "close the quotes"),
    ("flow", "close the bracket or brace"),
    ("undefined alias", "write the anchor (&name) before its alias (*name)"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, from 1."""

    line: int
    column: int


NOWHERE: Final = Place(0, 0)


class Plain(str):
    """Text that stood without quotes: what `${…}` leaves of it may be a number."""

    __slots__ = ()


@dataclass(slots=True)
class Document:
    """The tree, where each key and each value stands, and what is wrong with the text."""

    tree: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where `path` stands (its key if asked), or the nearest part of the file above it."""
        for length in range(len(path), -1, -1):
            part = path[:length]
            if key and part in self.keys:
                return self.keys[part]
            if part in self.values:
                return self.values[part]
        return NOWHERE


@dataclass(slots=True)
class _Node:
    """One node of the text, before aliases are followed."""

    place: Place
    scalar: Any = None
    items: list[_Node] | None = None
    pairs: list[tuple[_Node, _Node]] | None = None
    open: bool = True


class _TextError(Exception):
    """Reading cannot go on after this fault."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


def scalar(text: str) -> Any:
    """What an unquoted text means in YAML 1.2: nothing, a truth value, a number, or itself.

    ValueError for NaN, infinity and numbers that no machine holds.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > 40:
            raise ValueError("the number is too long")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _ENDLESS.fullmatch(text):
        raise ValueError("not a finite number")
    if _FLOAT.fullmatch(text):
        if not math.isfinite(value := float(text)):
            raise ValueError("not a finite number")
        return value
    return Plain(text)


def read(text: str) -> Document:
    """The document in `text`, with all the faults that can be seen in it."""
    document = Document(values={(): Place(1, 1)})
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        fix = "split it; a lab of 2,000 VMs needs a few KiB, with count"
        document.faults.append(Fault("ML003", "the file is larger than 1 MiB", fix, 1, 1))
        return document
    reader = _Reader(document)
    try:
        root = reader.compose(text)
        document.tree = reader.build(root, ())
    except _TextError as error:
        document.faults.append(error.fault)
    except MarkedYAMLError as error:
        document.faults.append(_syntax(error, text))
    except ReaderError as error:
        document.faults.append(_unreadable(error, text))
    return document


def _events(text: str) -> Iterator[Event]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except (MarkedYAMLError, ReaderError):
        raise
    except (YAMLError, ValueError, AttributeError, TypeError, LookupError, AssertionError) as error:
        # ruamel's scanner itself trips over some broken texts, such as odd escapes and directives.
        fix = "compare it with `memlab examples copy quickstart`"
        raise _TextError(Fault("ML001", f"this is not YAML: {error}", fix, 1, 1)) from None


class _Reader:
    """From events to nodes, and from nodes to the tree."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.anchors: dict[str, _Node] = {}
        self.count = 0

    def compose(self, text: str) -> _Node:
        events = _events(text)
        root: _Node | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent) and root is not None:
                place = _place(event)
                fix = "keep one document, without a second ---"
                self._fault("ML001", "the file has a second document", fix, place)
                break
            if isinstance(event, NodeEvent):
                root = self._node(event, events, 0)
        return root if root is not None else _Node(Place(1, 1))

    def _node(self, event: Event, events: Iterator[Event], depth: int) -> _Node:
        place = _place(event)
        if depth > MAX_DEPTH:
            fix = "a lab file needs six levels"
            raise _TextError(
                Fault("ML003", f"more than {MAX_DEPTH} levels deep", fix, place.line, place.column)
            )
        if isinstance(event, AliasEvent):
            return self._aliased(event, place)
        node = _Node(place)
        if isinstance(event, NodeEvent) and event.anchor is not None:
            self.anchors[event.anchor] = node
        if isinstance(event, ScalarEvent):
            node.scalar = self._scalar(event, place)
        elif isinstance(event, SequenceStartEvent):
            node.items = [
                self._node(item, events, depth + 1) for item in _until(events, SequenceEndEvent)
            ]
        elif isinstance(event, MappingStartEvent):
            node.pairs = [
                (self._node(key, events, depth + 1), self._node(next(events), events, depth + 1))
                for key in _until(events, MappingEndEvent)
            ]
        node.open = False
        return node

    def _aliased(self, event: AliasEvent, place: Place) -> _Node:
        node = self.anchors.get(event.anchor)
        if node is None or node.open:
            what = "inside itself" if node else "which no anchor before it defines"
            message = f"*{event.anchor} is used {what}"
            self._fault("ML001", message, "write the anchor (&name) before its alias", place)
            return _Node(place)
        return node

    def _scalar(self, event: ScalarEvent, place: Place) -> Any:
        tag = str(event.tag) if event.tag is not None else None
        if tag not in (None, "!", "tag:yaml.org,2002:str", "!!str"):
            self._fault("ML001", f"the tag {tag} means nothing here", "leave the tag out", place)
        if not event.implicit[0] or tag is not None:
            return str(event.value)
        try:
            return scalar(event.value)
        except ValueError as error:
            fix = "write a plain number"
            self._fault("ML021", f"{event.value[:40]} is refused: {error}", fix, place)
            return None

    def build(self, node: _Node, path: Path) -> Any:
        self.count += 1
        if self.count > MAX_NODES:
            fix = "use fewer aliases; `count: N` makes N equal VMs"
            raise _TextError(
                Fault("ML003", f"more than {MAX_NODES:,} values, aliases counted", fix, 1, 1)
            )
        if len(path) > MAX_DEPTH:
            place = node.place
            raise _TextError(
                Fault("ML003", "too deep, aliases followed", "use fewer", place.line, place.column)
            )
        self.document.values[path] = node.place
        if node.pairs is not None:
            return self._map(node, path)
        if node.items is not None:
            return [self.build(item, (*path, index)) for index, item in enumerate(node.items)]
        return node.scalar

    def _map(self, node: _Node, path: Path) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        pairs = node.pairs or []
        for _key_node, value in filter(_is_merge, pairs):
            self._merge(value, path, merged)
        for key_node, value in pairs:
            if _is_merge((key_node, value)):
                continue
            if key_node.items is not None or key_node.pairs is not None:
                self._fault("ML004", "a key must be a word", "write key: value", key_node.place)
                continue
            key = _key(key_node.scalar)
            if key in own:
                first = self.document.keys[*path, key].line
                fix = f"keep one of the two; the first is in line {first}"
                self._fault("ML002", f"{key!r} is there twice", fix, key_node.place)
                continue
            self.document.keys[*path, key] = key_node.place
            own[key] = self.build(value, (*path, key))
        return {**merged, **own}

    def _merge(self, node: _Node, path: Path, into: dict[str, Any]) -> None:
        """`<<: *anchor`: keys of another map, which the map's own keys win over."""
        for source in [node] if node.items is None else node.items:
            found = self.build(source, path)
            self.document.values[path] = node.place
            if not isinstance(found, Mapping):
                fix = "write <<: *name, where &name is before a map"
                self._fault("ML001", "<< takes a map", fix, node.place)
                continue
            for key, value in found.items():
                into.setdefault(key, value)

    def _fault(self, code: str, message: str, fix: str, place: Place) -> None:
        self.document.faults.append(Fault(code, message, fix, place.line, place.column))


def _is_merge(pair: tuple[_Node, _Node]) -> bool:
    return isinstance(pair[0].scalar, Plain) and pair[0].scalar == "<<"


def _key(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _until(events: Iterator[Event], end: type[Event]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, end):
            return
        yield event


def _place(event: Event) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _syntax(error: MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    words = " ".join(str(part) for part in (error.context, error.problem) if part)
    fix = next((fix for part, fix in _FIXES if part in words), "look at the line above it as well")
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if mark and any("${" in here for here in text.splitlines()[mark.line : line]):
        fix = 'inside { } put it in quotes: "${NAME}"'
    return Fault("ML001", f"this is not YAML: {words}", fix, line, column)


def _unreadable(error: ReaderError, text: str) -> Fault:
    before = text[: error.position]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    message = f"character {error.character!r} cannot stand in YAML"
    return Fault("ML005", message, "remove it, and save the file as UTF-8", line, column)
