"""The ledger's identities, over any numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memlab.record.ledger import (
    GuestBalance,
    HostBalance,
    LabBalance,
    machine_used,
    swap_slots,
    total,
    unmapped_swap_cache,
)

SIZES = st.integers(0, 2**40)
HOSTS = st.builds(HostBalance, SIZES, SIZES, SIZES, SIZES, SIZES)
GUESTS = st.builds(GuestBalance, SIZES, SIZES, SIZES, SIZES, SIZES)


def balance(pages: HostBalance, unique: int, *, pool: int | None, charged: bool) -> LabBalance:
    return LabBalance(
        pages=pages,
        unique_frames=unique,
        unique_slots=pages.out // 2,
        consumed=pages.private + unique + 100 + 7 + ((pool or 0) if charged else 0),
        overhead=100,
        swap_cache=7,
        balloon_backed=5,
        pool=pool,
        compressed=None if pool is None else pool * 3,
        pool_charged=charged,
    )


@given(GUESTS, SIZES)
def test_the_guest_identity_tells_exactly_what_is_missing(guest: GuestBalance, lost: int) -> None:
    whole = guest.used + guest.cache + guest.free + guest.ballooned + guest.reserved
    assert guest.residual(whole + lost) == lost


@given(HOSTS, SIZES)
def test_the_host_identity_tells_exactly_what_is_missing(host: HostBalance, lost: int) -> None:
    assert host.residual(host.backed + host.not_backed + lost) == lost


@given(HOSTS, GUESTS, SIZES)
def test_a_page_that_the_guest_frees_becomes_a_ghost(
    host: HostBalance, guest: GuestBalance, freed: int
) -> None:
    after = GuestBalance(
        guest.used - freed, guest.cache, guest.free + freed, guest.ballooned, guest.reserved
    )
    assert host.ghost(after) == host.ghost(guest) + freed


@given(st.lists(HOSTS, max_size=6))
def test_the_sum_over_vms_keeps_the_identity(hosts: list[HostBalance]) -> None:
    configured = sum(host.backed + host.not_backed for host in hosts)
    assert total(hosts).residual(configured) == 0


@given(HOSTS, SIZES, st.none() | SIZES, st.booleans())
def test_what_was_saved_and_what_is_used_make_up_what_was_configured(
    pages: HostBalance, unique: int, pool: int | None, charged: bool
) -> None:
    lab = balance(pages, unique, pool=pool, charged=charged)
    assert lab.accounted is not None and lab.overhead is not None and lab.swap_cache is not None
    saved = lab.saved_sharing + (lab.saved_balloon or 0) + (lab.saved_compression or 0)
    saved += lab.saved_swap + lab.never_touched
    guest_memory = lab.accounted - lab.overhead - lab.swap_cache
    assert saved == pages.backed + pages.not_backed - guest_memory


@given(HOSTS, SIZES, st.none() | SIZES, st.booleans())
def test_the_residual_does_not_depend_on_who_is_charged_for_the_pool(
    pages: HostBalance, unique: int, pool: int | None, charged: bool
) -> None:
    assert balance(pages, unique, pool=pool, charged=charged).residual == 0


def test_the_pool_is_added_only_where_nobody_is_charged_for_it() -> None:
    assert machine_used(100, 30, pool_charged=False) == 130
    assert machine_used(100, 30, pool_charged=True) == 100
    assert machine_used(None, 30, pool_charged=False) is None
    assert machine_used(100, None, pool_charged=False) == 100


def test_what_is_absent_stays_absent() -> None:
    lab = LabBalance(HostBalance(1, 1, 1, 1, 1), 1, 1, None, None, None, None, None, None, False)
    absent = (lab.used, lab.accounted, lab.residual, lab.saved_balloon, lab.saved_compression)
    assert set(absent) == {None}
    assert lab.saved_sharing == 1


def cache(active: int | None, anon: int | None, cached: int | None) -> float | None:
    return unmapped_swap_cache(
        active_anon=active, inactive_anon=0, anon=anon, shmem=None, swapcached=cached
    )


@given(SIZES, SIZES, SIZES)
def test_the_unmapped_swap_cache_is_a_part_of_the_swap_cache(
    active: int, anon: int, cached: int
) -> None:
    value = cache(active, anon, cached)
    assert value is not None and 0 <= value <= cached


@given(SIZES, SIZES, SIZES)
def test_slots_are_never_more_than_the_pages_that_are_out(out: int, used: int, mapped: int) -> None:
    slots = swap_slots(out, used=used, swapcached=mapped, unmapped=0)
    assert 0 <= slots <= out


def test_a_merged_page_that_is_out_has_one_slot_and_a_page_read_back_is_not_out() -> None:
    assert swap_slots(80, used=72, swapcached=44, unmapped=0) == 28
    assert swap_slots(80, used=None, swapcached=None, unmapped=None) == 80


def test_a_page_of_the_swap_cache_that_is_mapped_is_not_counted_again() -> None:
    assert cache(100, 90, 30) == 10
    assert cache(90, 90, 30) == 0
    assert cache(None, 90, 30) is None


def test_a_compressed_copy_of_a_page_that_was_read_back_saves_no_frame() -> None:
    """As before 6.5: 30 of 100 slots are of pages that are out, 50 pages are in the pool."""
    lab = LabBalance(
        pages=HostBalance(private=70, shared=0, zero=0, out=30, not_backed=0),
        unique_frames=0, unique_slots=30, consumed=90, overhead=0, swap_cache=0,
        balloon_backed=None, pool=20, compressed=50, pool_charged=True,
    )  # fmt: skip
    assert lab.saved_swap == 0
    assert lab.saved_compression == 10
