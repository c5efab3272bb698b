"""Every VM by itself: defaults, then its group, then its entry; maps merge, lists replace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from memlab.lab.model import short_key
from memlab.lab.spec import VmEntry

Tree = Mapping[str, Any]


def merged(low: Tree, high: Tree, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """`high` over `low`. A workload of another name leaves the settings of the former behind, and
    a command leaves the workload behind."""
    result = dict(low)
    for key, value in high.items():
        here = (*path, key)
        before, after = _long(result.get(key), here), _long(value, here)
        if isinstance(before, dict) and isinstance(after, dict):
            if key == "workload" and after.get("name", before.get("name")) != before.get("name"):
                before = {name: part for name, part in before.items() if name != "args"}
            after = merged(before, after, here)
        result[key] = after
    if "command" in high and "workload" not in high:
        result.pop("workload", None)
    if "workload" in high and "command" not in high:
        result.pop("command", None)
    return result


def _long(value: Any, path: tuple[str, ...]) -> Any:
    """A value that stands for a map, as that map."""
    key = short_key(path)
    return {key: value} if key and isinstance(value, str | bool) else value


def entries(tree: Tree) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each entry of `vms` with everything that defaults and its group say of it."""
    defaults, groups = tree.get("defaults") or {}, tree.get("groups") or {}
    for name, entry in (tree.get("vms") or {}).items():
        own = entry or {}
        group = groups.get(own.get("group")) or {}
        yield name, merged(merged(defaults, group), own)


def names(entry: str, settings: VmEntry) -> Iterable[str]:
    """The VMs that an entry makes: `web`, or `web-1` … `web-N`."""
    if settings.count == 1:
        return (entry,)
    return tuple(f"{entry}-{number}" for number in range(1, settings.count + 1))
