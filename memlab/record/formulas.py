"""What each derived column is computed from: one formula a column, over raw samples.

A formula looks at one `Moment` (an entity at one sample, and the sample before) and returns bytes,
seconds or a rate; None where something that it needs is absent. `docs/measuring.md` and
`record.columns` say in words what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from memlab.record.columns import Entity
from memlab.record.ledger import (
    GuestBalance,
    HostBalance,
    LabBalance,
    machine_used,
    swap_slots,
    total,
    unmapped_swap_cache,
)
from memlab.record.raw import Moment
from memlab.record.terms import (
    MICRO,
    NANO,
    Formula,
    add,
    either,
    known_sum,
    level,
    over_vms,
    pages,
    quantile,
    rate,
)
from memlab.units import PAGE

_PERIODS: Final = "vm_medium.guest_sample_periods"
_CLOCK: Final = "vm_fast.guest_published_ns"


def _latency(part: float) -> Formula:
    return lambda moment: quantile(moment.raw.latencies(moment.vm, moment.sample), part)


# A VM


def _configured(moment: Moment) -> float:
    return moment.raw.vms[moment.vm].configured


def _host_balance(moment: Moment) -> HostBalance | None:
    parts = [
        moment.now(f"vm_deep.{name}") for name in ("private", "shared", "zero", "out", "not_backed")
    ]
    known = [part * PAGE for part in parts if part is not None]
    return HostBalance(*known) if len(known) == len(parts) else None


def _active(moment: Moment) -> float | None:
    """Absent until the estimator's first period is over, and where none runs."""
    found = moment.now("vm_medium.guest_active_pages")
    return found * PAGE if found is not None and moment.now(_PERIODS) else None


def _guest_balance(moment: Moment, *moments: str) -> GuestBalance | None:
    """The guest's counters at the walk; with both `before` and `after`, in the middle of it."""
    columns = []
    for name in ("used", "cache", "free", "ballooned", "reserved"):
        parts = [moment.now(f"vm_deep.{when}_{name}_pages") for when in moments]
        value = known_sum(parts, strict=True)
        if value is None:
            return None
        columns.append(value * PAGE / len(moments))
    return GuestBalance(*columns)


def _residual_guest(moment: Moment) -> float | None:
    guest = _guest_balance(moment, "after")
    return None if guest is None else guest.residual(_configured(moment))


def _residual_host(moment: Moment) -> float | None:
    host = _host_balance(moment)
    return None if host is None else host.residual(_configured(moment))


def _ghost(moment: Moment) -> float | None:
    host, guest = _host_balance(moment), _guest_balance(moment, "before", "after")
    return None if host is None or guest is None else host.ghost(guest)


def _vm_overhead(moment: Moment) -> float | None:
    resident = moment.now("vm_deep.resident_pages")
    private, shared = moment.now("vm_deep.private"), moment.now("vm_deep.shared")
    if resident is None or private is None or shared is None:
        return None
    return max(0, resident - private - shared) * PAGE


def _saved_common(moment: Moment) -> float | None:
    """Σ over VMs is Σ shared − unique frames: each VM has its fair part of the frames."""
    shared, common = moment.now("vm_deep.shared"), moment.now("vm_deep.common_bytes")
    return None if shared is None or common is None else shared * PAGE - common


def _own_anonymous(moment: Moment) -> float | None:
    """The part of a VM's overhead that is its own anonymous memory; files are charged apart."""
    overhead, files = _vm_overhead(moment), moment.now("vm_deep.file_pages")
    return None if overhead is None or files is None else max(0, overhead - files * PAGE)


def _guest_rate(name: str, scale: float = 1) -> Formula:
    return rate(f"vm_fast.guest_{name}", scale, clock=_CLOCK)


_OPERATIONS: Final = _guest_rate("operations")
_BALLOONED: Final = pages("vm_fast.guest_ballooned_pages")
_CLASSES: Final = {
    name: pages(f"vm_deep.{name}") for name in ("private", "shared", "zero", "out", "not_backed")
}

VM: Final[dict[str, Formula]] = {
    "configured": _configured,
    "used": pages("vm_fast.guest_used_pages"),
    "cache": pages("vm_fast.guest_cache_pages"),
    "free": pages("vm_fast.guest_free_pages"),
    "ballooned": _BALLOONED,
    "reserved": pages("vm_fast.guest_reserved_pages"),
    "balloon_target": pages("vm_fast.guest_balloon_target_pages"),
    "balloon_backed": pages("vm_fast.guest_balloon_backed_pages"),
    "mapped": pages("vm_fast.guest_app_mapped_pages"),
    "touched": pages("vm_fast.guest_app_touched_pages"),
    "active": _active,
    "active_referenced": pages("vm_medium.referenced_pages"),
    "active_pressure": pages("vm_medium.pressure_pages"),
    "active_damon": pages("vm_medium.damon_pages"),
    "active_guest": add(pages("vm_fast.guest_used_pages"), pages("vm_fast.guest_cache_pages")),
    "referenced_cpu": rate("vm_medium.referenced_cpu_us", MICRO),
    "pressure_cpu": rate("vm_medium.pressure_cpu_us", MICRO),
    "damon_cpu": rate("vm_medium.damon_cpu_us", MICRO),
    "pressure_pushed": rate("vm_medium.pressure_pushed_pages", PAGE),
    "pressure_back": rate("vm_medium.pressure_back_pages", PAGE),
    "working_set": pages("vm_medium.guest_working_set_pages"),
    "shareable": add(pages("vm_medium.guest_zero_pages"), pages("vm_medium.guest_common_pages")),
    "guest_swapped": pages("vm_fast.guest_guest_swap_pages"),
    "guest_swap_in": _guest_rate("guest_swap_in", PAGE),
    "operations": _OPERATIONS,
    "cpu": rate("vm_medium.cpu_ns", NANO),
    "p50": _latency(0.5),
    "p99": _latency(0.99),
    "p999": _latency(0.999),
    "major_faults": either(rate("vm_fast.major_faults"), _guest_rate("major_faults")),
    "minor_faults": either(rate("vm_fast.minor_faults"), _guest_rate("minor_faults")),
    "consumed": level("vm_fast.usage"),
    "resident": pages("vm_fast.resident_pages"),
    "merged": pages("vm_medium.ksm_merging_pages"),
    **_CLASSES,
    "common": level("vm_deep.common_bytes"),
    "saved_common": _saved_common,
    "ghost": _ghost,
    "overhead": _vm_overhead,
    "compressed": level("vm_medium.zswapped"),
    "pool": level("vm_medium.zswap"),
    "swapped": level("vm_medium.swap"),
    "stall_some": rate("vm_medium.stall_some_us", MICRO),
    "stall_full": rate("vm_medium.stall_full_us", MICRO),
    "delay_swapin": rate("vm_medium.swapin_delay_ns", NANO),
    "delay_thrashing": rate("vm_medium.thrashing_delay_ns", NANO),
    "delay_copy": rate("vm_medium.copy_delay_ns", NANO),
    "delay_reclaim": rate("vm_medium.reclaim_delay_ns", NANO),
    "residual_guest": _residual_guest,
    "residual_host": _residual_host,
    "frames_differ": pages("vm_deep.frames_differ"),
}
"""Formulas of VM columns by name."""


# The lab


def _used(moment: Moment) -> float | None:
    charged = moment.now("lab_fast.zswap") is not None
    usage = moment.now("lab_fast.usage")
    return machine_used(usage, _POOL(moment), pool_charged=charged)


def _free(moment: Moment) -> float | None:
    budget, used = moment.now("lab_fast.budget"), _used(moment)
    return None if budget is None or used is None else budget - used


def _overcommitment(moment: Moment) -> float | None:
    configured, budget = moment.now("lab_fast.configured"), moment.now("lab_fast.budget")
    return None if configured is None or not budget else configured / budget


def _swapped(moment: Moment) -> float | None:
    slots, compressed = moment.now("lab_fast.swap_used"), moment.now("host_fast.zswapped")
    return None if slots is None else max(0, slots - (compressed or 0))


def _balance(moment: Moment) -> LabBalance | None:
    """The lab's ledger at a deep sample; None if the page tables of one VM could not be read."""
    vms = moment.each("vm_deep")
    balances = [balance for vm in vms if (balance := _host_balance(vm)) is not None]
    unique = moment.now("lab_deep.unique_frames")
    if not vms or len(balances) < len(vms) or unique is None:
        return None
    charged = moment.now("lab_deep.zswap") is not None
    pages = total(balances)
    own_out = known_sum(map(_own_out, vms), strict=False) or 0
    cache = _unmapped(moment, "lab_deep")
    return LabBalance(
        pages=pages,
        unique_frames=unique * PAGE,
        unique_slots=swap_slots(
            pages.out,
            used=moment.now("lab_deep.swap_used"),
            swapcached=_swap_cached(moment, "lab_deep"),
            unmapped=cache,
            overhead_out=own_out,
        ),
        consumed=_mean(moment.now("lab_deep.usage_before"), moment.now("lab_deep.usage_after")),
        overhead=_lab_overhead(moment),
        swap_cache=cache,
        balloon_backed=known_sum(map(_BACKED_AT_WALK, vms), strict=False),
        pool=moment.now("lab_deep.zswap" if charged else "lab_deep.host_zswap"),
        compressed=moment.now("lab_deep.zswapped" if charged else "lab_deep.host_zswapped"),
        pool_charged=charged,
        overhead_out=own_out,
    )


def _mean(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else (one + other) / 2


def _own_out(moment: Moment) -> float | None:
    """What is out of a VM's own memory: swap entries of its process that are no guest page's."""
    entries, out = moment.now("vm_deep.swap_entries"), moment.now("vm_deep.out")
    return None if entries is None or out is None else max(0, entries - out) * PAGE


def _lab_overhead(moment: Moment) -> float | None:
    own = known_sum(map(_own_anonymous, moment.each("vm_deep")), strict=True)
    files, kernel = moment.now("lab_deep.file"), moment.now("lab_deep.kernel") or 0
    # v2 charges the compressed pool as kernel memory (obj_cgroup_charge_zswap; seen on 6.12: a
    # residual of minus the pool), and the ledger has the pool as a term of its own.
    pool = min(kernel, moment.now("lab_deep.zswap") or 0)
    return None if own is None or files is None else own + files + kernel - pool


def _unmapped(moment: Moment, table: str) -> float | None:
    return unmapped_swap_cache(
        active_anon=moment.now(f"{table}.active_anon"),
        inactive_anon=moment.now(f"{table}.inactive_anon"),
        anon=moment.now(f"{table}.anon"),
        shmem=moment.now(f"{table}.shmem"),
        swapcached=_swap_cached(moment, table),
    )


def _swap_cached(moment: Moment, table: str) -> float | None:
    """The lab's swap cache. v1 tells it since 6.6; before, it is what has a slot and is not charged
    as swap: v1 gives that charge back when the page is charged as memory again (mm/memcontrol.c,
    mem_cgroup_swapin_uncharge_swap)."""
    told = moment.now(f"{table}.swapcached")
    used, swap = moment.now(f"{table}.swap_used"), moment.now(f"{table}.swap")
    charged = moment.now("lab_deep.zswap") is not None
    if told is not None or charged or used is None or swap is None:
        return told
    return max(0, used - swap)


def _ledger(look: Callable[[LabBalance], float | None]) -> Formula:
    def formula(moment: Moment) -> float | None:
        balance = _balance(moment)
        return None if balance is None else look(balance)

    return formula


def _oom_kills(moment: Moment) -> float:
    """Kills that were recorded as events, or what the lab's group says if that is more."""
    return max(moment.raw.kills(moment.sample), moment.now("lab_medium.oom_kill") or 0)


_POOL: Final = either(level("lab_fast.zswap"), level("host_fast.zswap"))
_BACKED_AT_WALK: Final = pages("vm_deep.after_balloon_backed_pages")

LAB: Final[dict[str, Formula]] = {
    "configured": level("lab_fast.configured"),
    "budget": level("lab_fast.budget"),
    "limit": level("lab_fast.limit_bytes"),
    "overcommitment": _overcommitment,
    "consumed": level("lab_fast.usage"),
    "pool": _POOL,
    "used": _used,
    "free": _free,
    "compressed": level("host_fast.zswapped"),
    "swap_slots": level("lab_fast.swap_used"),
    "swapped": _swapped,
    "ballooned": over_vms("vm_fast", _BALLOONED, strict=False),
    **{name: over_vms("vm_deep", part, strict=True) for name, part in _CLASSES.items()},
    "unique_frames": pages("lab_deep.unique_frames"),
    "unique_slots": _ledger(lambda balance: balance.unique_slots),
    "ghost": over_vms("vm_deep", _ghost, strict=False),
    "overhead": _ledger(lambda balance: balance.whole_overhead),
    "swap_cache": lambda moment: _unmapped(moment, "lab_medium"),
    "saved_sharing": _ledger(lambda balance: balance.saved_sharing),
    "saved_balloon": _ledger(lambda balance: balance.saved_balloon),
    "saved_compression": _ledger(lambda balance: balance.saved_compression),
    "saved_swap": _ledger(lambda balance: balance.saved_swap),
    "never_touched": _ledger(lambda balance: balance.never_touched),
    "accounted": _ledger(lambda balance: balance.accounted),
    "residual": _ledger(lambda balance: balance.residual),
    "operations": over_vms("vm_fast", _OPERATIONS, strict=False),
    "ksmd_cpu": rate("host_fast.ksmd_cpu_ns", NANO),
    "observer_cpu": add(
        rate("lab_fast.sampler_cpu_ns", NANO), rate("lab_fast.main_cpu_ns", NANO),
        either(rate("lab_fast.guard_cpu_ns", NANO), lambda _: 0.0),
    ),
    "swap_in": rate("host_fast.pswpin", PAGE),
    "swap_out": rate("host_fast.pswpout", PAGE),
    "decompressed": rate("host_fast.zswpin", PAGE),
    "copied": rate("host_fast.cow_ksm", PAGE),
    "stall_some": rate("lab_fast.stall_some_us", MICRO),
    "stall_full": rate("lab_fast.stall_full_us", MICRO),
    "oom_kills": _oom_kills,
}  # fmt: skip
"""Formulas of the lab's columns by name."""


# The host


def _ksm_saved(moment: Moment) -> float | None:
    sharing = moment.now("host_medium.pages_sharing")
    # Zero pages are counted apart since 6.6; before that use_zero_pages was not counted.
    zero = moment.now("host_medium.ksm_zero_pages") or 0
    return None if sharing is None else (sharing + zero) * PAGE


def _ksm_foreign(moment: Moment) -> float | None:
    """Σ over all processes of merging pages is shared + sharing: what is left is not the lab's."""
    shared, sharing = (
        moment.now("host_medium.pages_shared"),
        moment.now("host_medium.pages_sharing"),
    )
    merging = [vm.now("vm_medium.ksm_merging_pages") for vm in moment.each("vm_medium")]
    if shared is None or sharing is None or None in merging:
        return None
    return max(0, shared + sharing - sum(pages or 0 for pages in merging)) * PAGE


HOST: Final[dict[str, Formula]] = {
    "total": level("host_fast.mem_total"),
    "available": level("host_fast.mem_available"),
    "free": level("host_fast.mem_free"),
    "swap_free": level("host_fast.swap_free"),
    "pool": level("host_fast.zswap"),
    "compressed": level("host_fast.zswapped"),
    "ksm_saved": _ksm_saved,
    "ksm_profit": level("host_medium.general_profit"),
    "ksm_scanned": rate("host_medium.pages_scanned"),
    "ksm_foreign": _ksm_foreign,
    "stall_some": rate("host_fast.stall_some_us", MICRO),
    "stall_full": rate("host_fast.stall_full_us", MICRO),
}
"""Formulas of the host's columns by name."""

FORMULAS: Final = {Entity.VM: VM, Entity.LAB: LAB, Entity.HOST: HOST}
