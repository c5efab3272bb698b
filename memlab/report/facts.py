"""What a recording's manifest says, as typed facts; what it does not say is absent.

The manifest is written by the session and described in `docs/recording.md`. Reports read it here
and nowhere else, and leniently: a run that was killed has only the part written before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memlab.control.policy import Mechanism
from memlab.record.columns import Entity
from memlab.record.series import Source

ALSO: Mapping[str, str] = {Mechanism.SHARING: "tps"}


@dataclass(frozen=True, slots=True)
class Standing:
    """How the run ended and what that makes of it: `outcome` is passed, failed, invalid,
    inconclusive, or unknown when the run was killed before it could be said."""

    outcome: str
    ended: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expect:
    """One expectation of the lab file, and what was measured."""

    name: str
    that: str
    outcome: str
    measured: str | None
    expected: str | None
    text: str
    where: str | None


@dataclass(frozen=True, slots=True)
class Restored:
    """Whether the host was given back: `ok` is None when nobody wrote it down."""

    ok: bool | None
    given_back: tuple[str, ...]
    left: tuple[str, ...]
    failed: tuple[str, ...]


def standing(source: Source) -> Standing:
    """The verdict on the run, with its reasons."""
    manifest = source.manifest
    said = manifest.get("verdict")
    ended = text_of(manifest.get("ended")) or "not written down: still running, or killed"
    if isinstance(said, Mapping):
        outcome = text_of(said.get("outcome")) or "unknown"
        return Standing(outcome, ended, lines(said.get("reasons")))
    return Standing(text_of(said) or "unknown", ended, lines(manifest.get("reasons")))


def expects(source: Source) -> tuple[Expect, ...]:
    """The expectations in the order of the lab file."""
    return tuple(
        Expect(
            name=plain(str(row.get("name", ""))),
            that=plain(str(row.get("that", ""))),
            outcome=plain(str(row.get("outcome") or "unknown")),
            measured=text_of(row.get("measured")),
            expected=text_of(row.get("expected")),
            text=plain(str(row.get("text") or "")),
            where=text_of(row.get("where")),
        )
        for row in mappings(source.manifest.get("expects"))
    )


def restored(source: Source) -> Restored:
    """What became of the host."""
    said = mapping(source.manifest.get("restored"))
    ok = said.get("ok")
    return Restored(
        None if ok is None else bool(ok),
        lines(said.get("given_back")),
        lines(said.get("left")),
        lines(said.get("failed")),
    )


def enabled(source: Source, mechanism: Mechanism) -> bool | None:
    """Whether the lab file let the mechanism work; None: not written down."""
    known = mapping(source.manifest.get("mechanisms"))
    said = known.get(mechanism.value, known.get(ALSO.get(mechanism, "")))
    if isinstance(said, Mapping):
        said = said.get("enabled")
    return None if said is None else bool(said)


def why_absent(source: Source, entity: Entity, name: str) -> str:
    """Why this run has no such column, in a few words."""
    reasons = mapping(source.manifest.get("absent"))
    return plain(str(reasons.get(f"{entity.value}.{name}") or "not measured in this run"))


def vm_facts(source: Source, vm: str) -> Mapping[str, Any]:
    """What the manifest knows of one VM: its size, workload, image."""
    rows = mappings(source.manifest.get("vms"))
    return next((row for row in rows if row.get("name") == vm), {})


def results(source: Source, vm: str) -> Mapping[str, Any]:
    """The workload's own results for one VM, and its verify."""
    return mapping(mapping(source.manifest.get("results")).get(vm))


def work(source: Source, vm: str) -> tuple[float | None, float | None]:
    """Operations that a VM's workload has done in all, and their p99, seconds."""
    found = results(source, vm)
    stats = mapping(found.get("stats"))
    p99, p99_ns = number(found.get("p99")), number(stats.get("p99_ns"))
    if p99 is None and p99_ns is not None:
        p99 = p99_ns / 1e9
    return number(found.get("operations", stats.get("operations"))), p99


def lab_name(source: Source) -> str:
    """The lab's name."""
    known = source.manifest.get("lab") or source.manifest.get("name") or "unnamed lab"
    return plain(str(known))


def place(source: Source) -> str | None:
    """In which box it ran, on what, and how slowly; None: on the host itself, at full speed."""
    box, scale = mapping(source.manifest.get("box")), number(source.manifest.get("time_scale"))
    said = []
    if box:
        how = {"kvm": "virtualized CPU (kvm)", "tcg": "emulated CPU (tcg)"}
        accelerator = str(box.get("accelerator"))
        said.append(f"in a box: Debian {box.get('release')}, {how.get(accelerator, accelerator)}")
    if qemu := mapping(source.manifest.get("qemu")):
        kinds = sorted(set(map(str, mapping(qemu.get("accelerator")).values())))
        said.append(f"QEMU guests on {' and '.join(kinds)}")
    if scale is not None and scale != 1:
        said.append(f"all times × {scale:g}")
    return plain("; ".join(said)) or None


def lines(value: Any) -> tuple[str, ...]:
    """A list of texts, however it was written."""
    if isinstance(value, list | tuple):
        return tuple(plain(str(item)) for item in value)
    return () if value is None else (plain(str(value)),)


def plain(text: str) -> str:
    """The text without what could steer a terminal or turn a line around; lines stay lines."""
    return "".join(c if c.isprintable() or c in " \n\t" else "\ufffd" for c in text)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: recordings come from strangers too."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """Those items of a list that are mappings."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def number(value: Any) -> float | None:
    """The value if it is a number, else None."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good else None


def text_of(value: Any) -> str | None:
    """The value as text; None stays None."""
    return None if value is None else plain(str(value))
