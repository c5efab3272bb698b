"""HTML and SVG that cannot be broken out of: every text is escaped unless it is Markup already."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is HTML already. Only this module and `still.py` make it."""

    __slots__ = ()


Child = str | Markup | None
VOID = frozenset({"input", "rect", "line", "path"})


def tag(name: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """`<name …>children</name>`. `class_` is class, `data_x` is data-x; None and False are left
    out, True is the bare name."""
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        words.append(attribute if value is True else f'{attribute}="{escape(_plain(value))}"')
    head = " ".join(words)
    # The slash matters in SVG: without it, all that follows would be inside the first <rect>.
    return Markup(f"<{head}/>" if name in VOID else f"<{head}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """The children one after the other, escaped where they are plain text."""
    return Markup("".join(text(child) for child in children if child is not None))


def text(child: str) -> Markup:
    """Plain text as HTML."""
    return child if isinstance(child, Markup) else Markup(escape(child))


def _plain(value: str | float) -> str:
    """Numbers short: no digits beyond a hundredth, which is less than a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
