"""Entitlement against the published numbers, and what must hold for any claims."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlab.control.entitlement import Client, idle_cost, price, progressive, targets
from memlab.units import MIB, PAGE


@pytest.mark.parametrize(
    ("tax", "of_a", "of_b"), [(0.8, 0.375, 0.625), (0.0, 1.5, 1.0)]
)  # the practice sheet's four numbers
def test_the_price_of_the_worked_example(tax: float, of_a: float, of_b: float) -> None:
    assert price(6000, 4000, 0.25, tax) == pytest.approx(of_a)
    assert price(2000, 2000, 0.85, tax) == pytest.approx(of_b)


def test_an_idle_page_costs_four_active_ones_at_the_default_tax() -> None:
    assert idle_cost(0.75) == 4
    assert idle_cost(0.0) == 1
    with pytest.raises(ValueError, match="0 to 99%"):
        idle_cost(1.0)


@pytest.mark.parametrize(
    ("tax", "idle", "active"),
    [
        (0.0, 180, 180),
        (0.25, 160, 200),
        (0.50, 133.333, 226.667),
        (0.75, 104, 256),
        (0.90, 104, 256),
    ],
)
def test_the_equilibrium_of_two_vms_in_360_mib(tax: float, idle: float, active: float) -> None:
    """published-results §1: equal shares, 256 MiB each, 40 MiB of the first are active."""
    clients = (
        Client("idle", 1000, 256 * MIB, active=40 * MIB),
        Client("active", 1000, 256 * MIB, active=256 * MIB),
    )
    found = targets(clients, 360 * MIB, tax=tax)
    assert found["idle"] == pytest.approx(idle * MIB, abs=PAGE)
    assert found["active"] == pytest.approx(active * MIB, abs=PAGE)


def test_the_end_is_where_revoking_page_by_page_ends() -> None:
    """The sweep against the paper's own loop: take from the lowest price until all fits."""
    clients = (
        Client("a", 1000, 400, active=100),
        Client("b", 2000, 500, active=450),
        Client("c", 500, 300, reservation=120, active=20),
    )
    memory, tax = 700, 0.6
    sizes = {client.name: client.limit for client in clients}
    while sum(sizes.values()) > memory:
        victim = min(
            (client for client in clients if sizes[client.name] > client.reservation),
            key=lambda client: _rho(client, sizes[client.name], tax),
        )
        sizes[victim.name] -= 1
    scaled = tuple(
        Client(c.name, c.shares, c.limit * PAGE, c.reservation * PAGE, (c.active or 0) * PAGE)
        for c in clients
    )
    found = targets(scaled, memory * PAGE, tax=tax)
    for client in clients:
        assert found[client.name] // PAGE == pytest.approx(sizes[client.name], abs=2)


def _rho(client: Client, size: int, tax: float) -> float:
    return price(client.shares, size, min(1.0, (client.active or 0) / size), tax)


def test_without_an_estimate_all_of_a_vm_is_active() -> None:
    both = (Client("a", 1000, 100 * MIB), Client("b", 3000, 100 * MIB))
    assert targets(both, 80 * MIB, tax=0.75) == {"a": 20 * MIB, "b": 60 * MIB}


def test_what_fits_is_given_in_full_and_what_cannot_is_refused() -> None:
    both = (Client("a", 1, 10 * MIB, reservation=6 * MIB), Client("b", 1, 10 * MIB))
    assert targets(both, 20 * MIB, tax=0.5) == {"a": 10 * MIB, "b": 10 * MIB}
    with pytest.raises(ValueError, match="do not fit"):
        targets(both, 5 * MIB, tax=0.5)


def test_a_progressive_tax_spares_the_busy() -> None:
    assert progressive(0.75, 0.0) == 0.75
    assert progressive(0.75, 1.0) == 0.0
    clients = (
        Client("half-idle", 1000, 100 * MIB, active=50 * MIB),
        Client("all-idle", 1000, 100 * MIB, active=0),
    )
    flat = targets(clients, 100 * MIB, tax=0.75)
    grown = targets(clients, 100 * MIB, tax=0.75, progressive_tax=True)
    assert grown["half-idle"] > flat["half-idle"]


def test_ten_thousand_clients_are_one_sweep() -> None:
    clients = [
        Client(f"vm-{n}", 1 + n % 7, 64 * MIB, n % 3 * MIB, n % 64 * MIB) for n in range(10_000)
    ]
    found = targets(clients, 200_000 * MIB, tax=0.75)
    assert sum(found.values()) == pytest.approx(200_000 * MIB, rel=1e-3)


_sizes = st.integers(0, 4096).map(lambda pages: pages * PAGE)


@st.composite
def _clients(draw: st.DrawFn) -> list[Client]:
    found = []
    for number in range(draw(st.integers(1, 8))):
        low, high = sorted((draw(_sizes), draw(_sizes)))
        active = draw(st.none() | _sizes)
        shares = draw(st.integers(1, 100_000))
        found.append(Client(str(number), shares, high, low, active))
    return found


_tax = st.floats(0, 0.99)


@given(clients=_clients(), more=_sizes, tax=_tax, progressive_tax=st.booleans())
def test_targets_keep_every_bound(
    clients: list[Client], more: int, tax: float, progressive_tax: bool
) -> None:
    memory = sum(client.reservation for client in clients) + more
    found = targets(clients, memory, tax=tax, progressive_tax=progressive_tax)
    assert sum(found.values()) <= memory
    for client in clients:
        assert client.reservation <= found[client.name] <= client.limit
    if sum(client.limit for client in clients) > memory:
        assert sum(found.values()) >= memory - PAGE * (len(clients) + 1), "nothing is wasted"


@given(clients=_clients(), more=_sizes, tax=_tax, factor=st.integers(2, 50))
def test_more_shares_never_mean_less_memory(
    clients: list[Client], more: int, tax: float, factor: int
) -> None:
    memory = sum(client.reservation for client in clients) + more
    first = clients[0]
    richer = Client(first.name, first.shares * factor, first.limit, first.reservation, first.active)
    before = targets(clients, memory, tax=tax)[first.name]
    after = targets([richer, *clients[1:]], memory, tax=tax)[first.name]
    assert after >= before - PAGE


@given(clients=_clients(), more=_sizes, tax=_tax)
def test_equal_prices_where_nobody_is_held(
    clients: Sequence[Client], more: int, tax: float
) -> None:
    """The paper's own criterion: whoever is off its bounds pays the same as the others."""
    memory = sum(client.reservation for client in clients) + more
    found = targets(clients, memory, tax=tax)
    if sum(client.limit for client in clients) <= memory:
        return
    free = [
        client
        for client in clients
        if client.reservation + PAGE < found[client.name] < client.limit - PAGE
    ]
    costs = []
    for client in free:
        size = found[client.name]
        active = min(client.limit if client.active is None else client.active, client.limit)
        paid = min(size, active) + idle_cost(tax) * max(0, size - active)
        costs.append((paid / client.shares, idle_cost(tax) * PAGE / client.shares))
    for level, slack in costs:
        assert abs(level - costs[0][0]) <= slack + costs[0][1] + 1e-6 * level
