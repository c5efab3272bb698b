"""The grammar of conditions: text to a tree of nodes, each with its place in the text.

    expression = or ; or = and {"or" and} ; and = not {"and" not} ; not = ["not"] comparison
    comparison = sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]
    sum = product {("+" | "-") product} ; product = sign {("*" | "/") sign} ; sign = ["-"] primary
    primary = literal | column | call | "(" expression ")"
    literal = 1.5, 15%, 32MiB, 2s, 3MiB/s ; column = owner.name ; call = name(argument, …)

`web-1.free` is one word because names of VMs may hold a hyphen: put spaces around a minus. What
the words mean, and which of them fit together, is for `condition.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from memlab.errors import UsageError
from memlab.record.columns import Unit
from memlab.units import UnitError, parse_duration, parse_size

MAX_NODES: Final = 500
_MAX_DEPTH: Final = 40

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    | (?P<column>[a-z0-9][a-z0-9_-]*\.[a-z][a-z0-9_]*)
    | (?P<number>\d+(?:\.\d+)?(?:%|[A-Za-z]+(?:\d+(?:\.\d+)?[A-Za-z]+)*)?(?:/s\b)?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<string>"[^"]*"|'[^']*')
    | (?P<sign><=|>=|==|!=|[-+*/()<>,])""",
    re.VERBOSE,
)
_COMPARE: Final = frozenset({"<", "<=", ">", ">=", "==", "!="})
_BINDING: Final = {
    "or": 1,
    "and": 2,
    **dict.fromkeys(_COMPARE, 4),
    **dict.fromkeys(("+", "-"), 5),
    **dict.fromkeys(("*", "/"), 6),
}
_NOT: Final = 3
_MINUS: Final = 7
_SPELLINGS: Final = {"=": "==", "&": "and", "&&": "and", "|": "or", "||": "or", "!": "not"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a condition: its column from 1, and what would be right."""

    column: int
    message: str
    fix: str


class ConditionError(UsageError):
    """A condition that cannot be meant. `findings` has everything that is wrong with it."""

    def __init__(self, text: str, findings: tuple[Finding, ...]) -> None:
        first = findings[0]
        super().__init__(f"{text!r}, column {first.column}: {first.message}", hint=first.fix)
        self.text = text
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Literal:
    """A number and its unit (None: a bare number)."""

    start: int
    end: int
    value: float
    unit: Unit | None


@dataclass(frozen=True, slots=True)
class Word:
    """Text in quotes."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Ref:
    """A column: `owner` is host, lab, vm (each VM in turn) or the name of a VM."""

    start: int
    end: int
    owner: str
    name: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """`not x` or `-x`."""

    start: int
    end: int
    sign: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Infix:
    """Two operands and the sign between them."""

    start: int
    end: int
    sign: str
    left: Node
    right: Node

    @property
    def compares(self) -> bool:
        """Whether it is one of the six comparisons."""
        return self.sign in _COMPARE


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments."""

    start: int
    end: int
    name: str
    arguments: tuple[Node, ...]


Node = Literal | Word | Ref | Prefix | Infix | Call


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below `node`."""
    match node:
        case Prefix():
            return (node.operand,)
        case Infix():
            return node.left, node.right
        case Call():
            return node.arguments
    return ()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse_expression(text: str) -> Node:
    """The tree of `text`; ConditionError with the column where reading stopped."""
    return _Parser(text).whole()


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            odd = re.match(r"[=&|!]+|.", text[position:], re.DOTALL)
            word = odd[0] if odd else ""
            fix = f"write {_SPELLINGS[word]}" if word in _SPELLINGS else "remove it"
            raise ConditionError(text, (Finding(position + 1, f"{word!r} is no sign here", fix),))
        if match.lastgroup and match.lastgroup != "space":
            yield _Token(match.lastgroup, match[0], position, match.end())
        position = match.end()
    yield _Token("end", "", len(text), len(text))


class _Parser:
    """Top-down operator precedence: each sign binds as strongly as `_BINDING` says."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.next = 0
        self.depth = 0
        if len(self.tokens) > MAX_NODES:
            raise self._error(self.tokens[-1], "the condition is too long", "split it in two")

    def whole(self) -> Node:
        node = self._expression(0)
        if (rest := self._look()).kind != "end":
            if isinstance(node, Infix) and node.compares and rest.text in _COMPARE:
                fix = "write a < b and b < c"
                raise self._error(rest, "comparisons cannot be chained", fix)
            fix = "put and, or, or a sign before it"
            raise self._error(rest, f"{rest.text!r} follows a complete condition", fix)
        return node

    def _expression(self, binding: int) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._error(self._look(), "too many brackets inside each other", "split it")
        left = self._prefix()
        while (power := _BINDING.get(self._look().text, 0)) > binding:
            sign = self._take()
            # A comparison takes no second one: `a < b < c` means nothing here.
            right = self._expression(power)
            left = Infix(left.start, right.end, sign.text, left, right)
            if left.compares and self._look().text in _COMPARE:
                break
        self.depth -= 1
        return left

    def _prefix(self) -> Node:
        token = self._take()
        if token.text in ("not", "-"):
            operand = self._expression(_NOT if token.text == "not" else _MINUS)
            return Prefix(token.start, operand.end, token.text, operand)
        if token.text == "(":
            node = self._expression(0)
            self._expect(")", token)
            return node
        if token.kind == "column":
            owner, _, name = token.text.partition(".")
            return Ref(token.start, token.end, owner, name)
        if token.kind == "number":
            return self._literal(token)
        if token.kind == "string":
            return Word(token.start, token.end, token.text[1:-1])
        if token.kind == "word" and token.text not in ("and", "or"):
            return self._call(token)
        what = repr(token.text) if token.text else "the end"
        fix = "write a column such as lab.free, a number or a function"
        raise self._error(token, f"a value is expected, not {what}", fix)

    def _call(self, name: _Token) -> Node:
        if self._look().text != "(":
            fix = f"write lab.{name.text}, host.{name.text}, VM.{name.text} or {name.text}(…)"
            raise self._error(name, f"{name.text!r} belongs to nothing", fix)
        opening = self._take()
        arguments: list[Node] = []
        while self._look().text != ")":
            arguments.append(self._expression(0))
            if self._look().text != ",":
                break
            self._take()
        end = self._expect(")", opening)
        return Call(name.start, end.end, name.text, tuple(arguments))

    def _literal(self, token: _Token) -> Node:
        text = token.text
        per_second = text.endswith("/s")
        number = text.removesuffix("/s")
        try:
            value, unit = _number(number)
        except UnitError as error:
            raise self._error(token, str(error), error.fix) from None
        if per_second and unit is Unit.BYTES:
            unit = Unit.BYTES_PER_SECOND
        elif per_second:
            raise self._error(token, f"{text!r} is no rate", "write 3MiB/s, or a bare number")
        return Literal(token.start, token.end, value, unit)

    def _look(self) -> _Token:
        return self.tokens[self.next]

    def _take(self) -> _Token:
        token = self.tokens[self.next]
        self.next = min(self.next + 1, len(self.tokens) - 1)
        return token

    def _expect(self, sign: str, opening: _Token) -> _Token:
        token = self._look()
        if token.text != sign:
            message = f"the bracket of column {opening.start + 1} is not closed"
            raise self._error(token, message, f"write {sign} here")
        return self._take()

    def _error(self, token: _Token, message: str, fix: str) -> ConditionError:
        return ConditionError(self.text, (Finding(token.start + 1, message, fix),))


def _number(text: str) -> tuple[float, Unit | None]:
    if text.endswith("%"):
        return float(text[:-1]) / 100, Unit.FRACTION
    if text[-1].isdigit():
        return float(text), None
    unit = text.lstrip("0123456789.")
    if unit[0] in "KMGTB" or unit.lower().endswith("b"):
        return float(parse_size(text)), Unit.BYTES
    try:
        return parse_duration(text), Unit.SECONDS
    except UnitError as error:
        raise UnitError(f"{text!r} has no unit that is known", "write 32MiB, 2s or 15%") from error
