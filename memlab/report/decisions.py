"""The journal of decisions as HTML: each action with its reason, and why others were not taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from memlab.record.series import Choice, Source
from memlab.report.markup import Child, Markup, join, tag
from memlab.report.sections import mechanism_key, section, table
from memlab.report.why import AGE
from memlab.report.words import TITLES
from memlab.units import format_duration

LEFT_ALONE: Final = "left-alone"
_MOST_ACTIONS: Final = 2000
_BUTTONS: Final = {
    **{str(mechanism): title for mechanism, title in TITLES.items()},
    AGE: "Making old",
    "block": "Blocking",
}
_NUMBER: Final = re.compile(r"-?\d+(?:[.,]\d+)*")


@dataclass(slots=True)
class Reason:
    """One reason to leave something alone: how often it was given, from when until when, and the
    last time in full. Reasons that differ only in their numbers are the same one."""

    first: Choice
    last: Choice
    count: int = 1


def decisions(source: Source) -> Markup:
    """All of them, grouped: what was done, then what was not."""
    choices = source.choices()
    done = [choice for choice in choices if choice.action != LEFT_ALONE]
    reasons = grouped([choice for choice in choices if choice.action == LEFT_ALONE])
    names = sorted({choice.policy for choice in choices})
    return section(
        "decisions",
        "Decisions, with their reasons",
        f"Policy {', '.join(names) or 'none'}: {len(done)} actions, "
        f"{len(choices) - len(done)} times something was left alone."
        + (f" The first {_MOST_ACTIONS} actions are shown." if len(done) > _MOST_ACTIONS else ""),
        _actions(source, done[:_MOST_ACTIONS]) if done else _none("no action was taken"),
        _left(reasons) if reasons else None,
    )


def grouped(choices: Sequence[Choice]) -> list[Reason]:
    """The reasons, most frequent first."""
    found: dict[tuple[str, str, str, str], Reason] = {}
    for choice in choices:
        words = choice.reason.replace(choice.vm, "…") if choice.vm else choice.reason
        shape = _NUMBER.sub("…", words)
        key = (choice.policy, choice.mechanism, choice.vm, shape)
        if key in found:
            found[key].last = choice
            found[key].count += 1
        else:
            found[key] = Reason(choice, choice)
    return sorted(found.values(), key=lambda reason: -reason.count)


def _none(text: str) -> Markup:
    return tag("p", text, class_="none")


def _actions(source: Source, choices: Sequence[Choice]) -> Markup:
    heads = ("time", "state", "mechanism", "VM", "asked → got", "reason")
    head = tag("tr", *(tag("th", text) for text in heads))
    rows = [_action(choice) for choice in choices]
    body = tag("table", tag("thead", head), tag("tbody", *rows), id="actions")
    return join(_filters(source, choices), tag("div", body, class_="card log"))


def _action(choice: Choice) -> Markup:
    took = f" in {format_duration(choice.seconds)}" if choice.seconds else ""
    return tag(
        "tr",
        tag("td", f"{choice.time:.1f} s", class_="t"),
        tag("td", choice.state),
        tag("td", mechanism_key(choice.mechanism), f" {_word(choice)}", class_="t"),
        tag("td", choice.vm or "–"),
        tag("td", _applied(choice), took, class_="t"),
        tag("td", choice.reason, class_="reason"),
        data_mechanism=choice.mechanism,
        data_vm=choice.vm,
    )


def _word(choice: Choice) -> str:
    """`balloon`, or `compression (reclaim)` where action and mechanism have different names."""
    same = choice.mechanism.startswith(choice.action) or choice.action in ("share", "")
    return choice.mechanism if same else f"{choice.mechanism} ({choice.action})"


def _applied(choice: Choice) -> Child:
    if choice.asked is None:
        return "–"
    if choice.got is None:
        return join(choice.asked, tag("span", " → not known", class_="absent"))
    if choice.got == choice.asked:
        return choice.got
    return f"{choice.asked} → {choice.got}"


def _filters(source: Source, choices: Sequence[Choice]) -> Markup:
    used = {choice.mechanism for choice in choices}
    buttons = [_button(word, title) for word, title in _BUTTONS.items() if word in used]
    vms = [tag("option", "all VMs", value=""), *(tag("option", v, value=v) for v in source.vms)]
    return tag(
        "div",
        *buttons,
        tag("select", *vms, aria_label="VM"),
        tag("input", type="search", placeholder="words in the reason", aria_label="words"),
        tag("output", class_="soft small"),
        class_="filters",
        id="filters",
    )


def _button(word: str, title: str) -> Markup:
    """Shows the actions with this word in the column `mechanism`, when it is pressed."""
    return tag(
        "button", mechanism_key(word), f" {title}",
        type="button", aria_pressed="false", data_mechanism=word,
    )  # fmt: skip


def _left(reasons: Sequence[Reason]) -> Markup:
    rows = [
        (
            f"{reason.count} ×",
            f"{reason.first.time:.0f}–{reason.last.time:.0f} s",
            join(mechanism_key(reason.last.mechanism), f" {reason.last.mechanism}"),
            reason.last.vm or "–",
            reason.last.reason,
        )
        for reason in reasons
    ]
    head = tag("summary", f"Left alone, and why ({len(reasons)})")
    hint = tag("p", "Reasons that differ only in numbers are one line.", class_="hint")
    body = table(("how often", "when", "mechanism", "VM", "reason"), rows, log=True)
    return tag("details", head, hint, body)
