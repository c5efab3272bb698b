from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from memlab.errors import GuestError
from memlab.guest.wire import MAX_LINE
from memlab.vm.link import SocketLink


@pytest.fixture
def ends() -> Iterator[tuple[SocketLink, socket.socket]]:
    ours, theirs = socket.socketpair()
    link = SocketLink("web", ours)
    yield link, theirs
    link.close()
    theirs.close()


def test_a_command_is_one_line(ends: tuple[SocketLink, socket.socket]) -> None:
    link, agent = ends
    assert link.send("balloon", target=4096) == 1
    assert agent.recv(999) == b'{"id":1,"cmd":"balloon","target":4096}\n'


def test_answers_are_found_by_number_and_events_kept_apart(
    ends: tuple[SocketLink, socket.socket],
) -> None:
    link, agent = ends
    first, second = link.send("stats"), link.send("verify")
    agent.sendall(
        b'{"id":2,"ok":true,"bad":0}\n{"event":"balloon"}\n{"id":1,"ok":true,"free_pages":3}\n'
    )
    assert link.answer(first, timeout=1)["free_pages"] == 3
    assert link.answer(second, timeout=1)["bad"] == 0
    assert link.events() == [{"event": "balloon"}]
    assert link.events() == []


def test_a_line_may_come_in_pieces(ends: tuple[SocketLink, socket.socket]) -> None:
    link, agent = ends
    number = link.send("stats")
    for byte in b'{"id":1,"ok":true}\n{"event":"x"}\n{"ev':
        agent.sendall(bytes([byte]))
        link.events() if byte == ord(":") else None
    assert link.answer(number, timeout=1)["ok"]
    agent.sendall(b'ent":"y"}\n')
    assert {"event": "y"} in link.events()


def test_a_refusal_carries_the_agents_sentence(ends: tuple[SocketLink, socket.socket]) -> None:
    link, agent = ends
    number = link.send("workload", name="dance")
    agent.sendall(b'{"id":1,"ok":false,"error":"there is no workload of this name"}\n')
    with pytest.raises(GuestError, match="refused workload: there is no workload of this name"):
        link.answer(number, timeout=1)


def test_silence_is_an_error_in_time(ends: tuple[SocketLink, socket.socket]) -> None:
    link, _agent = ends
    began = time.monotonic()
    with pytest.raises(GuestError, match=r"no answer to stats within 0\.1 s"):
        link.call("stats", timeout=0.1)
    assert 0.09 < time.monotonic() - began < 1


def test_the_end_is_an_error_at_once(ends: tuple[SocketLink, socket.socket]) -> None:
    link, agent = ends
    number = link.send("stats")
    agent.close()
    with pytest.raises(GuestError, match="ended before it answered stats"):
        link.answer(number, timeout=5)
    assert link.ended
    with pytest.raises(GuestError, match="ended before it answered stats"):
        link.call("stats")


def test_last_answers_are_had_though_a_later_command_was_not_taken(
    ends: tuple[SocketLink, socket.socket],
) -> None:
    link, agent = ends
    first = link.send("boot")
    agent.sendall(b'{"id":1,"ok":true}\n')
    agent.close()
    second = link.send("workload")
    assert link.answer(first, timeout=1)["ok"]
    with pytest.raises(GuestError, match="ended before it answered workload"):
        link.answer(second, timeout=1)


def test_an_answer_sent_before_the_end_is_still_had(
    ends: tuple[SocketLink, socket.socket],
) -> None:
    link, agent = ends
    number = link.send("stop")
    agent.sendall(b'{"id":1,"ok":true}\n')
    agent.close()
    assert link.answer(number, timeout=1)["ok"]


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b"\xff\n"])
def test_what_is_no_object_is_an_error(ends: tuple[SocketLink, socket.socket], line: bytes) -> None:
    link, agent = ends
    agent.sendall(line)
    with pytest.raises(GuestError, match="no JSON object"):
        link.events()


def test_a_line_without_end_is_an_error(ends: tuple[SocketLink, socket.socket]) -> None:
    link, agent = ends
    talker = threading.Thread(target=agent.sendall, args=(b"x" * (2 * MAX_LINE),))
    talker.start()
    deadline = time.monotonic() + 5
    with pytest.raises(GuestError, match="longer than"):
        while time.monotonic() < deadline:
            link.events()
    link.close()
    talker.join()


def test_an_answer_that_nobody_waits_for_is_not_kept(
    ends: tuple[SocketLink, socket.socket],
) -> None:
    link, agent = ends
    link.forget(link.send("stats"))
    agent.sendall(b'{"id":1,"ok":true}\n{"id":77,"ok":true}\n')
    assert link.events() == []
    with pytest.raises(GuestError, match="no answer"):
        link.answer(1, timeout=0.05)


def test_many_lines_cost_no_more_each(ends: tuple[SocketLink, socket.socket]) -> None:
    link, agent = ends
    lines = b"".join(json.dumps({"event": "e", "n": n}).encode() + b"\n" for n in range(50_000))
    talker = threading.Thread(target=agent.sendall, args=(lines,))
    talker.start()
    seen: list[int] = []
    deadline = time.monotonic() + 20
    while len(seen) < 50_000 and time.monotonic() < deadline:
        seen += [event["n"] for event in link.events()]
    talker.join()
    assert seen == list(range(50_000))
