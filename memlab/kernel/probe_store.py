"""Finding out, by doing, how this host can keep more than it has: KSM, zswap, swap, zram, THP.

Nothing host-wide is turned. What only a turned knob can show (`deep`) is done by `probe.py`
under the host's lock, with a journal, as a lab does it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

from memlab.errors import HostError
from memlab.kernel import ksm, swap, thp, zswap
from memlab.kernel.files import HOST, Roots, chosen, read_int, read_text
from memlab.kernel.finding import AS_ROOT, Feature, Finding, tried
from memlab.units import MIB, format_size

_SHARING = ("page sharing (mechanisms.tps)",)
_COMPRESSION = ("compression (mechanisms.compression)",)
_SWAP = ("swap (mechanisms.swap)", "compression, which needs swap slots")


def probe_ksm(roots: Roots, *, root: bool) -> Finding:
    """Whether memory can be marked as mergeable, and KSM be switched by this user."""
    how = "marked a page of its own as mergeable; looked who may write ksm/run"

    def work() -> str:
        if not ksm.present(roots):
            raise HostError("this kernel is built without KSM")
        with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
            page.madvise(mmap.MADV_MERGEABLE)
        _must_be_writable(roots.ksm / "run")
        on = "on" if read_int(roots.ksm / "run") == 1 else "off"
        return f"there, {on} now"

    repair = "use a kernel with CONFIG_KSM=y (Debian's, Ubuntu's and Fedora's have it)"
    return tried(Feature.KSM, how, work, repair=repair, affects=_SHARING, root=root)


def probe_zswap(roots: Roots, *, root: bool) -> Finding:
    """Whether zswap is there and its switch can be written."""
    how = "looked for zswap's parameters and who may write them"

    def work() -> str:
        if not zswap.present(roots):
            raise HostError("this kernel is built without zswap")
        _must_be_writable(roots.zswap / "enabled")
        on = "on" if zswap.is_enabled(roots) else "off"
        return f"there, {on} now, compressor {read_text(roots.zswap / 'compressor')}"

    repair = "use a kernel with CONFIG_ZSWAP=y, or host.swap.device: zram"
    return tried(Feature.ZSWAP, how, work, repair=repair, affects=_COMPRESSION, root=root)


def probe_compressors(roots: Roots) -> Finding:
    """Compressors that are loaded now; which others would load, only `deep` can tell."""
    how = "read /proc/crypto"
    loaded = loaded_compressors(roots)
    now = read_text(roots.zswap / "compressor")
    if not loaded:
        reason = f"none is loaded yet; zswap would use {now}" if now else "none is loaded"
        return Finding(Feature.COMPRESSORS, None, how, reason, "memlab doctor --deep", _COMPRESSION)
    return Finding(Feature.COMPRESSORS, True, how, f"loaded: {', '.join(loaded)}", "", _COMPRESSION)


def loaded_compressors(roots: Roots = HOST) -> tuple[str, ...]:
    """Names of zswap's compressors that /proc/crypto lists now."""
    text = read_text(roots.proc / "crypto") or ""
    names = {line.split(":")[1].strip() for line in text.splitlines() if line.startswith("name")}
    return tuple(name for name in zswap.COMPRESSORS if name in names)


def probe_swap_file(roots: Roots, folder: Path, *, root: bool) -> Finding:
    """Whether a swap file in `folder` can be made, swapped on and off again."""
    how = f"made a swap file of 1 MiB in {folder}, swapped on and off"

    def work() -> str:
        kind = swap.filesystem_of(folder, roots)
        with tempfile.TemporaryDirectory(prefix=".memlab-probe-", dir=folder) as place:
            path = Path(place) / "swap"
            swap.make_file(path, MIB, roots)
            if not root:
                return f"{kind} there could hold one; only root can swap on"
            swap.swapon(path, priority=0, roots=roots)
            swap.swapoff_in_child(path, timeout=10.0)
        return f"{kind} there holds one"

    found = tried(Feature.SWAP_FILE, how, work, affects=_SWAP, root=root)
    if found.works and not root:
        return Finding(found.feature, None, found.how, found.reason, AS_ROOT, _SWAP)
    return found


def probe_zram(roots: Roots, *, root: bool) -> Finding:
    """Whether a zram device can be made and taken away; as an ordinary user, whether zram is in."""
    how = "made a zram device of 1 MiB and took it away" if root else "looked for zram's control"
    affects = ("host.swap.device: zram",)

    def work() -> str:
        # Reading hot_add makes a device, so only its presence is looked at before.
        if not (roots.sys / "class/zram-control/hot_add").exists():
            raise HostError("zram is not loaded or not built", hint="modprobe zram")
        if root:
            swap.remove_zram(swap.make_zram(MIB, roots=roots), roots)
        return "works" if root else "there; only root can use it"

    return tried(Feature.ZRAM, how, work, affects=affects, root=root)


def probe_thp(roots: Roots) -> Finding:
    """How huge pages are set: `always` makes every figure of a process VM coarse."""
    mode = thp.mode(roots)
    how, affects = "read transparent_hugepage/enabled", ("VMs that move in single pages",)
    if mode is None:
        return Finding(Feature.THP, True, how, "this kernel has no huge pages", "", affects)
    size = thp.huge_page_size(roots)
    words = f"{mode}" + (f", {format_size(size)} each" if size else "")
    if mode is thp.Mode.ALWAYS:
        words += "; memlab switches them off for its own VMs"
    return Finding(Feature.THP, True, how, words, "", affects)


def _must_be_writable(path: Path) -> None:
    """Open for writing and close again, which changes nothing; OSError as the kernel says it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))


def others_at_work(roots: Roots = HOST) -> Finding:
    """Who else turns the same knobs or is counted by the same counters."""
    how = "looked for known daemons, merged pages, swap areas and zswap's switch"
    seen = [f"{name} runs: {why}" for name, why in _daemons(roots)]
    if shared := read_int(roots.ksm / "pages_shared"):
        seen.append(f"KSM has merged {shared} pages of others: two of its knobs cannot be changed")
    seen += [f"swap is on: {area.path}, {format_size(area.size)}" for area in swap.areas(roots)]
    if zswap.is_enabled(roots):
        seen.append("zswap is on already: others' pages are in its pool too")
    mode = read_text(roots.ksm / "advisor_mode")
    if mode is not None and chosen(mode) != "none":
        seen.append(f"KSM's advisor is on ({chosen(mode)}): it sets pages_to_scan by itself")
    affects = ("figures that the kernel counts host-wide", "what can be given back")
    if not seen:
        return Finding(Feature.OTHERS, True, how, "nobody", "", affects)
    return Finding(Feature.OTHERS, None, how, "; ".join(seen), _quiet(roots), affects)


def _quiet(roots: Roots) -> str:
    """The commands that end those daemons."""
    names = [name for name, _ in _daemons(roots)]
    services = " ".join(name for name in names if name != _AGENT)
    stop = f"systemctl stop {services}" if services else ""
    return "; ".join(filter(None, (stop, "memlab down" if _AGENT in names else "")))


_AGENT = "memlab-agent"
_DAEMONS = {
    "ksmtuned": "it switches KSM by its own rule",
    "tuned": "its profiles may set KSM, swappiness and huge pages",
    "systemd-oomd": "it may end a lab under pressure",
    "earlyoom": "it may end a VM when memory is short",
    _AGENT: "VMs of a lab",
}


def _daemons(roots: Roots) -> list[tuple[str, str]]:
    names = {read_text(folder / "comm") for folder in roots.proc.iterdir() if folder.name.isdigit()}
    return [(name, why) for name, why in _DAEMONS.items() if name[:15] in names]
