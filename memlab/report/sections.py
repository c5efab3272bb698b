"""The report's tables as HTML: readable without any script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from memlab.control.policy import Mechanism
from memlab.record.columns import Entity
from memlab.record.series import Event, Source
from memlab.report import facts
from memlab.report.markup import Child, Markup, join, tag
from memlab.report.verdict import NO_BASELINE, Verdict
from memlab.report.window import LEDGER_BOUND, Figure, Window
from memlab.report.words import ABSENT, change, count, figure, mib
from memlab.units import MIB, PAGE, format_duration, format_size

_MOST_EVENTS: Final = 1000
_LONGEST: Final = 240
"""Characters of an event that are shown: a whole answer of a guest is in the recording."""


def section(name: str, title: str, hint: str, *children: Child) -> Markup:
    """A heading with an address, one explaining sentence, and what follows."""
    head = tag("h2", title, id=name)
    return tag("section", head, tag("p", hint, class_="hint") if hint else None, *children)


def table(
    heads: Sequence[str], rows: Sequence[Sequence[Child]], *, numbers: int = 0, log: bool = False
) -> Markup:
    """A table whose last `numbers` columns are right-aligned; a `log` scrolls by itself."""
    first = len(heads) - numbers
    align = [None if i < first else "n" for i in range(len(heads))]
    head = tag("tr", *(tag("th", text, class_=c) for text, c in zip(heads, align, strict=True)))
    body = [
        tag("tr", *(tag("td", cell, class_=c) for cell, c in zip(row, align, strict=True)))
        for row in rows
    ]
    inner = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", inner, class_="card log" if log else "card scroll")


def badge(word: str, kind: str = "") -> Markup:
    """A word in a pill; its colour says nothing that the word does not."""
    return tag("span", word, class_=f"badge {kind or word}")


def shown(value: Figure) -> Markup:
    """A figure, or why there is none."""
    if value.value is None:
        return tag("span", f"{ABSENT}: {value.why}" if value.why else ABSENT, class_="absent")
    return tag("b", figure(value.value, value.unit), title=value.how)


def expectations(source: Source) -> Markup | None:
    """Each expectation with what was measured."""
    found = facts.expects(source)
    if not found:
        return None
    rows = [
        (
            badge(row.outcome),
            join(
                row.name or row.text,
                tag("div", row.text, class_="soft small") if row.name and row.text else None,
                tag("div", tag("code", row.that), class_="soft small"),
            ),
            row.measured or tag("span", ABSENT, class_="absent"),
            row.expected or "–",
            row.where or "–",
        )
        for row in found
    ]
    passed = sum(row.outcome == "passed" for row in found)
    heads = ("", "Expectation", "measured", "expected", "at")
    return section(
        "expectations",
        f"Expectations: {passed} of {len(found)} passed",
        "What the lab file said would happen, held against what was measured.",
        table(heads, rows, numbers=1),
    )


def work(verdict: Verdict) -> Markup:
    """Work, waiting and the observer, each beside its baseline where there is one."""
    rows: list[tuple[Child, ...]] = []
    for value in verdict.performance:
        if value.against is None:
            none = ABSENT if verdict.baseline or value.value is None else NO_BASELINE
            rows.append((value.label, shown(value), tag("span", none, class_="absent"), ""))
        else:
            held = figure(value.against, value.unit)
            known = value.value is not None and value.against
            word = change(value.value, value.against) if known and value.value else "–"
            rows.append((value.label, shown(value), held, word.replace("as in", "the same")))
    rows += [(value.label, shown(value), "–", "") for value in verdict.pressure]
    rows += [(value.label, shown(value), "–", "") for value in verdict.observer]
    against = f"baseline: {verdict.baseline}" if verdict.baseline else "baseline"
    return table(("Work, waiting, and the observer", "measured", against, ""), rows, numbers=3)


def ledger(source: Source, verdict: Verdict) -> Markup:
    """How well every page is accounted for: the residuals of each VM."""
    rows: list[tuple[Child, ...]] = []
    for vm in source.vms:
        configured = max(source.series(Entity.VM, "configured", vm).known, default=0.0)
        cells = [_worst(source, vm, name, configured) for name in _RESIDUALS]
        rows.append((vm, *cells, _closed(source, vm, configured)))
    heads = ("VM", "guest's view", "host's view", "frames that differ", "samples within 1 %")
    return section(
        "ledger",
        "The ledger: every page accounted for",
        "The largest residual of each identity over all deep samples, and its part of configured. "
        "More than 1 % of configured is a defect of the measurement.",
        table(heads, rows, numbers=4),
        tag("p", "Lab, mean of the window: residual ", shown(verdict.residual), class_="hint"),
    )


def sharing(source: Source) -> Markup | None:
    """What page sharing saved of each VM, by kind, and what its workload could share at most."""
    window = Window.of(source)
    rows: list[tuple[Child, ...]] = []
    for vm in source.vms:
        cells = [window.mean(Entity.VM, name, vm) for name in _SHARING]
        if any(cells):
            rows.append((vm, *(ABSENT if cell is None else f"{mib(cell)} MiB" for cell in cells)))
    if not rows:
        return None
    heads = ("Page sharing, VM by VM", "its pages that are merged", "saved: in others' frames",
             "saved: zero page", "of its workload could be")  # fmt: skip
    return table(heads, rows, numbers=4)


_SHARING: Final = ("shared", "saved_common", "zero", "shareable")
_RESIDUALS: Final = ("residual_guest", "residual_host", "frames_differ")


def _worst(source: Source, vm: str, name: str, configured: float) -> Child:
    known = source.series(Entity.VM, name, vm).known
    if not known:
        why = facts.why_absent(source, Entity.VM, name)
        return tag("span", why, class_="absent")
    worst = max(known, key=abs)
    part = f" ({abs(worst) / configured * 100:.2f} %)" if configured else ""
    return f"{mib(worst)} MiB{part}"


def _closed(source: Source, vm: str, configured: float) -> Child:
    """In how many deep samples every residual that is known stays within the bound."""
    columns = [source.series(Entity.VM, name, vm).values for name in _RESIDUALS]
    rows = [[v for v in row if v is not None] for row in zip(*columns, strict=True)]
    full = [row for row in rows if row]
    if not full or not configured:
        return tag("span", ABSENT, class_="absent")
    good = sum(all(abs(v) <= LEDGER_BOUND * configured for v in row) for row in full)
    return f"{good} of {len(full)}"


def events(source: Source) -> Markup:
    """Everything that happened, by time."""
    found = source.events()
    rows = [(f"{e.time:.1f} s", e.kind, e.vm or "–", said(e)) for e in found[:_MOST_EVENTS]]
    more = len(found) - len(rows)
    return section(
        "events",
        "What happened",
        f"{len(found)} events, by time."
        + (f" The first {len(rows)} are shown; `memlab events` has all." if more else ""),
        table(("time", "event", "VM", "what is known of it"), rows, log=True),
    )


def said(event: Event) -> str:
    """An event's data in one line."""
    parts = (
        _inline(value) if key == event.kind else f"{key} {_inline(value)}"
        for key, value in event.data.items()
    )
    whole = ", ".join(parts)
    return whole if len(whole) <= _LONGEST else f"{whole[:_LONGEST]} …"


def restored(source: Source) -> Markup:
    """Whether the host was given back, and each fact of it."""
    found = facts.restored(source)
    word = {True: ("yes", "yes"), False: ("no", "no"), None: ("not written down", "unknown")}
    rows: list[tuple[Child, ...]] = [
        *((badge("failed"), text) for text in found.failed),
        *((badge("left", "inconclusive"), text) for text in found.left),
        *((badge("given back", "yes"), text) for text in found.given_back),
    ]
    return section(
        "host",
        "The host, given back",
        "Every file of the host that the run changed, compared, written back and read again.",
        tag("p", "Host restored: ", badge(*word[found.ok])),
        table(("", "what"), rows) if rows else None,
    )


def run_facts(source: Source) -> Markup:
    """Kernel, versions, seed, mechanisms, and the lab file as it was."""
    manifest = source.manifest
    standing = facts.standing(source)
    start, end = source.window
    plan = facts.lines(manifest.get("plan"))
    rows: list[tuple[str, str | None]] = [
        ("began", facts.text_of(manifest.get("began"))),
        ("ended", standing.ended),
        ("measured window", f"{start:.1f} s to {end:.1f} s"),
        ("seed", facts.text_of(manifest.get("seed"))),
        *((f"host: {k}", v) for k, v in _flat(manifest.get("host"))),
        *((f"box: {k}", v) for k, v in _flat(manifest.get("box"))),
        *((f"QEMU: {k}", v) for k, v in _flat(manifest.get("qemu"))),
        ("times multiplied by", facts.text_of(manifest.get("time_scale"))),
        *((f"version: {k}", v) for k, v in _flat(manifest.get("versions"))),
        *((f"policy: {k}", v) for k, v in _flat(manifest.get("policy"))),
        *((f"mechanism: {k}", v) for k, v in _flat(manifest.get("mechanisms"))),
        *(("set out to change" if not i else "", row) for i, row in enumerate(plan)),
    ]
    pairs = [join(tag("dt", key), tag("dd", value)) for key, value in rows if value]
    text = facts.text_of(manifest.get("source") or manifest.get("lab_file"))
    return section(
        "facts",
        "The run's facts",
        "",
        tag("div", tag("dl", *pairs, class_="facts"), class_="card"),
        tag("details", tag("summary", "The lab file"), tag("pre", text), open=True)
        if text
        else None,
    )


def _flat(value: object) -> list[tuple[str, str]]:
    """A mapping's entries as text; an inner mapping as `key value, …`."""
    if not isinstance(value, dict):
        return [] if value is None else [("name", str(value))]
    return [(str(key), _inline(inner)) for key, inner in value.items()]


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_inline(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_inline(inner) for inner in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    # The manifest keeps sizes in bytes; nothing else in it is so large and so even.
    size = isinstance(value, int) and value >= MIB and value % PAGE == 0
    return format_size(value) if size and isinstance(value, int) else str(value)


def vm_head(source: Source, vm: str) -> Markup:
    """One VM's name, size, workload, results, and what verify found."""
    known, result = facts.vm_facts(source, vm), facts.results(source, vm)
    configured = max(source.series(Entity.VM, "configured", vm).known, default=None)
    parts: list[Child] = [tag("h3", vm)]
    if configured is not None:
        parts.append(tag("span", "configured ", tag("b", f"{mib(configured)} MiB")))
    for key in ("workload", "image", "content", "backend"):
        if known.get(key) is not None:
            name = facts.mapping(known[key]).get("name", known[key])
            parts.append(tag("span", f"{key} ", tag("b", _inline(name)), title=_inline(known[key])))
    operations, p99 = facts.work(source, vm)
    if operations is not None:
        parts.append(tag("span", tag("b", count(operations)), " operations"))
    if p99 is not None and operations:
        parts.append(tag("span", "p99 ", tag("b", format_duration(p99))))
    check = facts.mapping(result.get("verify"))
    if (bad := facts.number(check.get("bad"))) is not None:
        words = f"verify: {bad:.0f} bad of {check.get('checked', '?')} pages"
        parts.append(badge(words, "no" if bad else "yes"))
    return tag("div", *parts, class_="vmhead")


def mechanism_key(mechanism: str) -> Markup | None:
    """The swatch of a mechanism's paint."""
    known = {member.value for member in Mechanism}
    return tag("i", class_=f"key {mechanism}") if mechanism in known else None
