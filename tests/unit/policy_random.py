"""Views at random for the properties of policies: sizes that fit together, most of them."""

from __future__ import annotations

from hypothesis import strategies as st

from memlab.control.policy import Decision, Mechanism, Reclaim, View, VmView
from memlab.units import MIB
from tests.unit.policy_views import ALL, BUDGET


def pushed(decision: Decision, name: str) -> int:
    """Bytes of a VM that this decision pushes out, to wherever."""
    found = (one for one in decision.actions if isinstance(one, Reclaim))
    return sum(one.size for one in found if one.vm == name)


_MOST = 200 * MIB
_part = st.floats(0, 1)


@st.composite
def vms(draw: st.DrawFn, name: str) -> VmView:
    """A VM whose sizes fit together: what is ballooned is neither resident nor free, and what is
    private is resident. Any of them may not be known."""
    configured = draw(st.integers(8 * MIB, _MOST))
    limit = draw(st.none() | st.integers(4 * MIB, configured))
    reservation = draw(st.just(0) | st.integers(0, configured) | st.just(configured))
    ballooned = draw(st.none() | st.just(0) | _part.map(lambda part: int(part * configured)))
    left = configured - (ballooned or 0)
    resident = draw(st.none() | st.integers(0, left) | st.just(min(left, reservation)))
    free = draw(st.none() | st.integers(0, left))
    return VmView(
        name, configured, shares=draw(st.integers(1, 100_000)), reservation=reservation,
        limit=limit, resident=resident, ballooned=ballooned, free=free,
        used=None if free is None else left - free,
        cache=None if free is None else draw(st.integers(0, left - free)),
        private=None if resident is None else draw(st.none() | st.integers(0, resident)),
        ghost=draw(st.none() | st.integers(0, left) | st.just(free)),
        active=draw(st.none() | st.integers(0, configured)),
        out=draw(st.none() | st.integers(0, left - (resident or 0))),
        cpu=draw(st.sampled_from([None, 0.0, 0.5])),
        major_faults=draw(st.sampled_from([None, 0.0, 100.0, 20_000.0])),
        stall_some=draw(st.sampled_from([None, 0.0, 0.5])),
        blocked=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def views(draw: st.DrawFn) -> View:
    names = "abcd"[: draw(st.integers(1, 4))]
    one_of = st.sets(st.sampled_from(list(Mechanism)))
    return View(
        time=1.0, budget=BUDGET, used=draw(st.integers(0, int(1.1 * BUDGET))), pool_cap=40 * MIB,
        pool=draw(st.sampled_from([0, 39 * MIB])), swap_size=1024 * MIB,
        swap_used=draw(st.sampled_from([0, 1020 * MIB])), pages_to_scan=1000,
        mechanisms=draw(st.just(ALL) | one_of.map(frozenset)),
        vms=tuple(draw(vms(name)) for name in names),
    )  # fmt: skip
