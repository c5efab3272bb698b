"""The miniature guest: the real agent, in no cgroup."""

from __future__ import annotations

import mmap
import os
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlab.errors import GuestError, VmError
from memlab.guest import wire
from memlab.units import MIB, PAGE
from memlab.vm.base import Content, Image, Vm
from memlab.vm.command import CommandVm
from memlab.vm.process import ProcessVm
from tests import guests
from tests.guests import balloon, filled, running, set_work, stats, touched, verify, work

IMAGE_PAGES = guests.SMALL.size // PAGE


@pytest.fixture
def swap_fd(tmp_path: Path) -> Iterator[int]:
    with guests.disk(tmp_path, 16 * MIB) as fd:
        yield fd


def resident(vm: ProcessVm) -> int:
    return sum(guests.backed(vm))


def test_boot_touches_the_image_and_the_guests_tables_only() -> None:
    with running() as vm:
        said = stats(vm)
        assert said["used_pages"] == IMAGE_PAGES
        assert said["reserved_pages"] * PAGE == vm.booted["reserved"]
        assert sum(touched(vm)) == IMAGE_PAGES + said["reserved_pages"]
        assert touched(vm) == guests.backed(vm)
        assert (said["zero_pages"], said["common_pages"]) == (IMAGE_PAGES // 4, IMAGE_PAGES // 2)


def test_the_frame_map_agrees_with_the_page_tables_after_everything(swap_fd: int) -> None:
    with running(guest_swap_fd=swap_fd, workload=work("idle", 4 * MIB)) as vm:
        filled(vm)
        assert touched(vm) == guests.backed(vm)
        balloon(vm, 6 * MIB)
        assert touched(vm) == guests.backed(vm)
        balloon(vm, 0)
        assert touched(vm) == guests.backed(vm)
        set_work(vm, "idle", 5 * MIB)
        filled(vm)
        assert touched(vm) == guests.backed(vm)


def test_the_balloon_takes_free_frames_then_cache_then_swap(tmp_path: Path, swap_fd: int) -> None:
    with (
        guests.disk(tmp_path, 2 * MIB, fill=True) as cache_fd,
        running(guest_swap_fd=swap_fd, cache_fd=cache_fd) as vm,
    ):
        set_work(vm, "cache", 2 * MIB, zipf=0)
        guests.until(lambda: stats(vm)["cache_pages"] == 512)
        set_work(vm, "idle", 2 * MIB)
        before = filled(vm)
        assert (before["cache_pages"], before["guest_swap_pages"]) == (512, 0)
        balloon(vm, before["free_pages"] * PAGE)
        free_gone = stats(vm)
        assert free_gone["free_pages"] == 0
        assert (free_gone["cache_pages"], free_gone["guest_swap_pages"]) == (512, 0)
        balloon(vm, (before["free_pages"] + 512) * PAGE)
        cache_gone = stats(vm)
        assert (cache_gone["cache_pages"], cache_gone["guest_swap_pages"]) == (0, 0)
        assert cache_gone["cache_evicted"] == 512
        balloon(vm, (before["free_pages"] + 512 + 256) * PAGE)
        assert stats(vm)["guest_swap_pages"] >= 256
        assert verify(vm)["bad"] == 0


def test_the_balloon_gives_back_what_was_backed_and_counts_it() -> None:
    with running(workload=work("idle", 4 * MIB)) as vm:
        filled(vm)
        vm.link.call("free", size=4 * MIB)
        held = resident(vm)
        balloon(vm, 4 * MIB)  # LIFO: the frames just freed come first
        said = stats(vm)
        assert said["ballooned_pages"] == 1024
        assert said["balloon_backed_pages"] >= 1000
        assert held - resident(vm) == said["balloon_backed_pages"]
        reached = balloon(vm, 0)
        assert reached["ballooned"] == 0
        assert stats(vm)["balloon_backed_pages"] == 0
        assert resident(vm) == held - said["balloon_backed_pages"]


def test_a_balloon_that_can_take_no_more_says_so_and_leaves_the_guest_alive() -> None:
    with running(workload=work("toucher", 2 * MIB, period=0.1)) as vm:
        filled(vm)
        said = balloon(vm, 8 * MIB)
        assert said["stuck"] is True
        assert said["ballooned"] == stats(vm)["ballooned_pages"] * PAGE
        before = stats(vm)["operations"]
        guests.until(lambda: stats(vm)["operations"] > before + 100)
        vm.link.call("free", size=1 * MIB)
        set_work(vm, "idle")
        more = guests.until(lambda: stats(vm)["ballooned_pages"] * PAGE > said["ballooned"])
        assert more, "what was freed later is taken later"


def test_the_ghost_is_there_until_the_balloon_takes_it() -> None:
    with running() as vm:
        set_work(vm, "burst", 4 * MIB, hold=0.05, pause=1000)
        gone = guests.until(lambda: (now := stats(vm))["phase"] == "pause" and now)
        assert gone["app_touched_pages"] == 0
        ghost = resident(vm) - gone["used_pages"] - gone["reserved_pages"]
        assert ghost >= 1024 - 8, "freed by the guest, still held by the host"
        balloon(vm, 7 * MIB)
        now = stats(vm)
        assert resident(vm) - now["used_pages"] - now["reserved_pages"] <= 40


def test_guest_swap_and_back_loses_nothing(swap_fd: int) -> None:
    with running(guest_swap_fd=swap_fd) as vm:
        set_work(vm, "toucher", 12 * MIB, period=0.2)
        guests.until(lambda: stats(vm)["guest_swap_in"] > 2000)
        checked = verify(vm)
        assert checked["bad"] == 0
        assert checked["checked"] == 12 * MIB // PAGE + IMAGE_PAGES
        said = stats(vm)
        assert said["guest_swap_pages"] > 1000
        assert said["app_touched_pages"] == 3072


def test_verify_sees_a_bad_page_in_the_guests_swap(swap_fd: int) -> None:
    with running(guest_swap_fd=swap_fd, workload=work("idle", 12 * MIB)) as vm:
        filled(vm)
        for slot in range(16 * MIB // PAGE):
            page = os.pread(swap_fd, PAGE, slot * PAGE)
            if any(page):
                os.pwrite(swap_fd, b"\0" * 8, slot * PAGE)
                break
        bad = vm.link.call("verify", timeout=30)
        assert bad["bad"] == 1
        assert bad["first_bad"]["frame"] is None


@pytest.mark.parametrize("content", [Content(), Content(zero=1), Content(compressible=3)])
def test_verify_names_the_bad_page(content: Content) -> None:
    with running(workload=work("idle", 1 * MIB, content)) as vm:
        filled(vm)
        assert verify(vm)["bad"] == 0
        frame = stats(vm)["reserved_pages"] + IMAGE_PAGES + 3
        guests.poke(vm, frame, offset=PAGE - 1)
        said = verify(vm)
        assert said["bad"] == 1
        assert said["first_bad"]["of"] == "application"
        assert said["first_bad"]["frame"] == frame
        assert said["first_bad"]["class"] == ("zero" if content.zero else "unique")
        assert stats(vm)["bad_pages"] == 1
        guests.poke(vm, frame, offset=PAGE - 1)
        assert verify(vm)["bad"] == 0


def test_a_read_that_finds_the_wrong_thing_is_told_at_once() -> None:
    with running(workload=work("scan", 64 * PAGE)) as vm:
        filled(vm)
        frame = stats(vm)["reserved_pages"] + IMAGE_PAGES
        for offset in range(0, PAGE, 64):
            guests.poke(vm, frame, offset)
        assert guests.event(vm, "bad-page")["class"] == "unique"


def pages_of(vm: ProcessVm) -> list[bytes]:
    """All guest frames, as the host sees them."""
    assert vm.target.ram_start is not None
    with Path(f"/proc/{vm.pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(vm.target.ram_start)
        raw = memory.read(vm.config.memory)
    return [raw[at : at + PAGE] for at in range(0, len(raw), PAGE)]


def test_common_pages_are_equal_in_all_vms_of_an_image_and_others_in_none() -> None:
    content = Content(zero=0.25, common=0.5)
    image = Image("debian", 1 * MIB, content)
    contents: list[set[bytes]] = []
    for owner, name in ((1, "debian"), (2, "debian"), (3, "alpine")):
        with running(owner=owner, image=Image(name, MIB, content), workload=work("idle")) as vm:
            first = vm.booted["reserved"] // PAGE
            contents.append(set(pages_of(vm)[first : first + image.size // PAGE]))
    zero = {b"\0" * PAGE}
    same = (contents[0] & contents[1]) - zero
    assert len(same) == 128
    assert (contents[0] & contents[2]) == zero
    assert len(contents[0] - zero - same) == 64


@pytest.mark.parametrize("ratio", [2.0, 3.0, 4.0, 8.0])
def test_compressible_pages_are_so_by_about_that(ratio: float) -> None:
    import zlib

    with running(workload=work("idle", 1 * MIB, Content(compressible=ratio))) as vm:
        first = filled(vm)["reserved_pages"] + IMAGE_PAGES
        pages = pages_of(vm)[first : first + 256]
    whole = sum(len(page) for page in pages) / sum(len(zlib.compress(page, 1)) for page in pages)
    assert whole == pytest.approx(ratio, rel=0.1)


def test_random_pages_do_not_compress() -> None:
    import zlib

    with running(workload=work("idle", 1 * MIB)) as vm:
        first = filled(vm)["reserved_pages"] + IMAGE_PAGES
        pages = pages_of(vm)[first : first + 256]
    assert all(len(zlib.compress(page, 9)) > PAGE for page in pages)
    assert len(set(pages)) == 256


def test_a_write_takes_a_page_out_of_its_class() -> None:
    content = Content(zero=0.5, common=0.5)
    with running(workload=work("idle", 1 * MIB, content)) as vm:
        still = filled(vm)
        assert still["zero_pages"] == 128 + IMAGE_PAGES // 4
        vm.link.call("workload", name="scan", size=MIB, content={"zero": 1}, args={"writes": 1})
        filled(vm)
        guests.until(lambda: stats(vm)["zero_pages"] == IMAGE_PAGES // 4)
        assert verify(vm)["bad"] == 0


def test_the_working_set_follows_the_staircase() -> None:
    levels = [1 * MIB, 3 * MIB, 2 * MIB]
    with running() as vm:
        set_work(vm, "toucher", 4 * MIB, levels=levels, step=0.3, period=0.05)
        seen: list[int] = []
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            size = stats(vm)["working_set_pages"] * PAGE
            seen += [size] if not seen or seen[-1] != size else []
        assert [size for size in seen if size][:4] == [*levels, levels[0]]
        assert stats(vm)["app_touched_pages"] == 3 * MIB // PAGE


def test_keyvalue_follows_zipf_and_the_share_of_writes() -> None:
    with running(workload=work("keyvalue", 4 * MIB, zipf=0.99, writes=0.25)) as vm:
        guests.until(lambda: stats(vm)["operations"] > 200_000)
        said = stats(vm)
        assert said["writes"] / said["operations"] == pytest.approx(0.25, abs=0.01)
        assert 0 < said["p50_ns"] <= said["p99_ns"] <= said["p999_ns"]
        assert verify(vm)["bad"] == 0


def test_zipf_is_zipf(tmp_path: Path) -> None:
    """Misses of a cache that holds all: the k-th distinct page comes when Zipf's law says."""
    pages, exponent = 512, 0.99
    with guests.disk(tmp_path, pages * PAGE, fill=True) as fd, running(cache_fd=fd) as vm:
        set_work(vm, "cache", pages * PAGE, zipf=exponent, rate=20_000)
        said = guests.until(lambda: (now := stats(vm))["operations"] >= 2000 and now)
    total = sum(k**-exponent for k in range(1, pages + 1))
    chances = [k**-exponent / total for k in range(1, pages + 1)]
    expected = sum(1 - (1 - chance) ** said["operations"] for chance in chances)
    assert said["cache_read"] == pytest.approx(expected, rel=0.08)


def test_a_rate_is_kept_and_idle_sleeps() -> None:
    with running(workload=work("keyvalue", 1 * MIB, rate=2000)) as vm:
        before, began = filled(vm)["operations"], time.monotonic()
        time.sleep(0.6)
        done = stats(vm)["operations"] - before
        assert done == pytest.approx(2000 * (time.monotonic() - began), rel=0.2)
        set_work(vm, "idle", 1 * MIB)
        filled(vm)
        ticks = cpu_seconds(vm.pid)
        switches = voluntary_switches(vm.pid)
        time.sleep(0.4)
        assert cpu_seconds(vm.pid) - ticks <= 0.01
        assert voluntary_switches(vm.pid) - switches <= 1


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def voluntary_switches(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("voluntary_ctxt_switches"))
    return int(line.split()[1])


def test_a_leak_grows_at_its_rate_to_its_size() -> None:
    with running(workload=work("leak", 2 * MIB, rate=4 * MIB)) as vm:
        time.sleep(0.25)
        assert 0.5 * MIB < stats(vm)["app_touched_pages"] * PAGE < 1.6 * MIB
        guests.until(lambda: stats(vm)["app_touched_pages"] * PAGE == 2 * MIB)
        assert stats(vm)["operations"] == 512


def test_no_memory_is_an_event_and_counted_and_passes() -> None:
    with running() as vm:
        set_work(vm, "idle", 16 * MIB)
        assert guests.event(vm, "out-of-memory")["asked"] == PAGE
        said = guests.until(lambda: (now := stats(vm))["phase"] == "no-memory" and now)
        assert said["out_of_memory"] >= 1
        assert said["free_pages"] == 0
        assert verify(vm)["bad"] == 0
        set_work(vm, "idle", 1 * MIB)
        assert filled(vm)["used_pages"] == 256 + IMAGE_PAGES


def test_free_gives_pages_to_the_free_list_not_to_the_host() -> None:
    with running(workload=work("idle", 2 * MIB)) as vm:
        before, held = filled(vm), resident(vm)
        assert vm.link.call("free", size=1 * MIB)["freed"] == 1 * MIB
        after = stats(vm)
        assert after["free_pages"] - before["free_pages"] == 256
        assert resident(vm) == held
        assert vm.link.call("free", size=4 * MIB)["freed"] == 1 * MIB


def test_commands_are_answered_while_the_guest_works() -> None:
    with running(64 * MIB, workload=work("keyvalue", 48 * MIB)) as vm:
        waits = []
        for _ in range(50):
            began = time.perf_counter()
            vm.link.call("stats")
            waits.append(time.perf_counter() - began)
        # The quicker ones: on a busy machine the others waited for a core, not for the guest.
        assert sorted(waits)[10] < 0.005


def test_the_board_says_what_stats_says() -> None:
    with running(workload=work("idle", 2 * MIB)) as vm:
        filled(vm)
        said = stats(vm)
        size = wire.board_size(vm.config.memory // PAGE)
        assert vm.board_fd is not None
        with mmap.mmap(vm.board_fd, size, prot=mmap.PROT_READ) as board:
            magic, version, frames, sequence = wire.BOARD_HEADER.unpack_from(board)
            values = struct.unpack_from(f"<{len(wire.BOARD_FIELDS)}Q", board, wire.COUNTERS_OFFSET)
        assert (magic, version, frames) == (wire.BOARD_MAGIC, wire.BOARD_VERSION, 2048)
        assert sequence % 2 == 0
        on_board = dict(zip(wire.BOARD_FIELDS, values, strict=True))
        moving = {"published_ns", "minor_faults", "major_faults"}
        assert {k: v for k, v in on_board.items() if k not in moving} == {
            k: said[k] for k in wire.BOARD_FIELDS if k not in moving
        }


def test_both_kinds_of_vm_keep_the_contract(tmp_path: Path) -> None:
    """mypy reads the annotations; here the attributes are looked at."""
    vms: list[Vm] = [
        ProcessVm(guests.config(), guests.NOWHERE),
        CommandVm(guests.config(), guests.NOWHERE, log=tmp_path / "log"),
    ]
    for vm in vms:
        assert vm.board_fd is None
        with pytest.raises(VmError, match="has not been started"):
            vm.ended()
        vm.stop(timeout=0)


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"id":1}',
    b'{"id":-1,"cmd":"stats"}',
    b'{"id":1.5,"cmd":"stats"}',
    b'{"id":"1","cmd":"stats"}',
    b'{"id":1,"cmd":"stats"} trailing',
    b'{"id":1,"cmd":"dance\\u0022\\n"}',
    b'{"id":1,"cmd":"\\ud800"}',
    b'{"id":1,"cmd":"boot","memory":8388608}',
    b'{"id":1,"cmd":"balloon"}',
    b'{"id":1,"cmd":"balloon","target":-5}',
    b'{"id":1,"cmd":"balloon","target":1e300}',
    b'{"id":1,"cmd":"balloon","target":NaN}',
    b'{"id":1,"cmd":"workload","name":"keyvalue","size":0}',
    b'{"id":1,"cmd":"workload","name":"keyvalue","size":1e18}',
    b'{"id":1,"cmd":"workload","name":"keyvalue","size":4096,"args":{"writes":2}}',
    b'{"id":1,"cmd":"workload","name":"toucher","size":4096,"args":{"levels":[8192]}}',
    b'{"id":1,"cmd":"workload","name":"cache","size":4096}',
    b'{"id":1,"cmd":"workload","name":"idle","size":4096,"content":{"zero":0.8,"common":0.8}}',
    b'{"id":1,"cmd":"workload","name":7}',
    b'{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}}}',
    b'{"' + b"k" * 500 + b'":1}',
    b'{"id":1,"cmd":"workload","name":"toucher","size":4096,"args":{"levels":['
    + b",".join(b"4096" for _ in range(300))
    + b"]}}",
    b"x" * (wire.MAX_LINE * 3),
    bytes(range(1, 10)) + bytes(range(11, 256)),
    b"\0" * 100,
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_line_is_answered_and_changes_nothing(line: bytes) -> None:
    with running(workload=work("idle", 1 * MIB)) as vm:
        before = filled(vm)
        raw = vm.link._socket
        raw.setblocking(True)
        raw.sendall(line + b"\n" + b'{"id":99,"cmd":"stop-not"}\n')
        said = b""
        while b'"id":99' not in said:
            said += raw.recv(65536)
        raw.setblocking(False)
        answers = said.splitlines()
        assert all(b'"ok":false,"error":"' in answer for answer in answers)
        assert len(answers) == (2 if line else 1)
        after = stats(vm)
        moving = {"id", "published_ns", "minor_faults"}
        assert {k: v for k, v in after.items() if k not in moving} == {
            k: v for k, v in before.items() if k not in moving
        }


def test_random_bytes_never_end_the_agent() -> None:
    dice = random.Random(5)
    base = b'{"id":5,"cmd":"workload","name":"idle","size":4096,"args":{"levels":[1,2]}}'
    with running() as vm:
        raw = vm.link._socket
        for _ in range(3000):
            line = bytearray(base)
            for _ in range(dice.randint(1, 6)):
                line[dice.randrange(len(line))] = dice.choice(b'{}[]",:\\u0019aeE.-\x00\xff')
            raw.setblocking(True)
            raw.sendall(bytes(line).replace(b"\n", b" ") + b"\n")
            raw.setblocking(False)
            vm.link.events()
        stats(vm)
        assert vm.ended() is None


def test_the_agent_ends_with_its_line() -> None:
    with running(workload=work("keyvalue", 2 * MIB)) as vm:
        vm.link.close()
        assert guests.until(vm.ended) == "exited 0"


def test_a_boot_that_cannot_be_is_said_with_the_last_words() -> None:
    vm = ProcessVm(guests.config(image=Image("big", 64 * MIB)), guests.NOWHERE)
    vm.start()
    with pytest.raises(VmError, match="the image does not fit") as failed:
        vm.wait_ready(timeout=10)
    assert "exited 1 before it was ready" in failed.value.message
    vm.stop(timeout=1)


def test_a_workload_that_cannot_be_leaves_the_old_one() -> None:
    with running(workload=work("idle", 1 * MIB)) as vm:
        filled(vm)
        with pytest.raises(GuestError, match="the cache file has 0 pages"):
            set_work(vm, "cache", 1 * MIB)
        assert stats(vm)["app_touched_pages"] == 256


def test_a_second_verify_is_refused_and_a_new_workload_ends_the_first() -> None:
    with running(64 * MIB, workload=work("idle", 60 * MIB)) as vm:
        filled(vm)
        first, second = vm.link.send("verify"), vm.link.send("verify")
        third = vm.link.send("workload", name="idle", size=0)
        with pytest.raises(GuestError, match="under way"):
            vm.link.answer(second, timeout=5)
        with pytest.raises(GuestError, match="another workload"):
            vm.link.answer(first, timeout=5)
        assert vm.link.answer(third, timeout=5)["ok"]


STEP = st.one_of(
    st.tuples(st.just("balloon"), st.integers(0, 2048)),
    st.tuples(st.just("free"), st.integers(0, 2048)),
    st.tuples(st.just("pause"), st.integers(0, 20)),
    st.tuples(
        st.sampled_from(["idle", "toucher", "keyvalue", "scan", "leak"]), st.integers(1, 3500)
    ),
    st.tuples(st.sampled_from(["burst", "cache"]), st.integers(1, 512)),
)
ARGS: dict[str, dict[str, Any]] = {
    "toucher": {"period": 0, "writes": 0.5},
    "keyvalue": {"writes": 0.5},
    "scan": {"writes": 0.3},
    "leak": {"rate": 0},
    "burst": {"hold": 0.005, "pause": 0.005, "period": 0},
}


def take(vm: ProcessVm, name: str, number: int) -> None:
    if name == "balloon":
        vm.link.call("balloon", target=number * PAGE)
    elif name == "free":
        vm.link.call("free", size=number * PAGE)
    elif name == "pause":
        time.sleep(number / 1000)
    else:
        content = {"zero": 0.2, "common": 0.3, "compressible": 3}
        args = ARGS.get(name, {})
        vm.link.call("workload", name=name, size=number * PAGE, content=content, args=args)


@settings(max_examples=40)
@given(st.lists(STEP, min_size=1, max_size=12))
def test_whatever_is_asked_every_frame_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "cache").mkdir()
    with (
        guests.disk(folder, 10 * MIB) as swap,
        guests.disk(folder / "cache", 2 * MIB, fill=True) as cache,
        running(guest_swap_fd=swap, cache_fd=cache) as vm,
    ):
        for name, number in steps:
            take(vm, name, number)
            stats(vm)
        assert verify(vm)["bad"] == 0
        set_work(vm, "idle")
        balloon(vm, 0)
        assert stats(vm)["guest_swap_pages"] == 0
        assert touched(vm) == guests.backed(vm)
        assert not [said for said in vm.link.events() if said["event"] == "bad-page"]
