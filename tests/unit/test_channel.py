"""The control socket: answers, refusals, and peers that would hold the lab up."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from memlab.errors import HostError, MemlabError
from memlab.lab import channel
from memlab.lab.channel import Channel, ask


def handle(question: Mapping[str, Any]) -> Mapping[str, Any]:
    if question.get("verb") == "refuse":
        raise MemlabError("not now", hint="later")
    return {"echo": question}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """A channel that answers until the test ends."""
    path = tmp_path / "control"
    done = threading.Event()
    with Channel(path, uid=os.getuid()) as listening:

        def loop() -> None:
            while not done.is_set():
                listening.serve(handle)
                done.wait(0.005)

        thread = threading.Thread(target=loop)
        thread.start()
        yield path
        done.set()
        thread.join()


def test_a_question_is_answered(served: Path) -> None:
    assert ask(served, {"verb": "status"})["echo"] == {"verb": "status"}


def test_the_socket_is_the_owners_alone(served: Path) -> None:
    assert stat.S_IMODE(served.stat().st_mode) == 0o600


def test_a_refusal_keeps_its_words_and_its_hint(served: Path) -> None:
    with pytest.raises(MemlabError, match="not now") as refused:
        ask(served, {"verb": "refuse"})
    assert refused.value.hint == "later"


def test_without_a_lab_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no lab is running"):
        ask(tmp_path / "control", {})


@pytest.mark.parametrize("line", [b"[]\n", b"{\n", b"[" * 60000 + b"\n", b"\xff\n"])
def test_what_is_not_an_object_is_refused(served: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(served))
        peer.sendall(line)
        assert b"not a JSON object" in peer.recv(4096)


def test_too_long_a_question_is_cut_off_and_the_next_one_answered(served: Path) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(served))
        with pytest.raises(OSError):
            for _ in range(1000):
                peer.sendall(b"x" * 65536)
    assert ask(served, {"verb": "status"})


def test_half_a_question_and_silence_hold_nobody_up(served: Path) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            silent = stack.enter_context(socket.socket(socket.AF_UNIX))
            silent.connect(str(served))
            silent.sendall(b'{"verb":')
        assert ask(served, {"verb": "status"}, timeout=1.0)
        silent.sendall(b' "late"}\n')
        assert json.loads(silent.recv(4096))["echo"] == {"verb": "late"}


def test_a_question_that_never_ends_is_given_up(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "PATIENCE", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(served))
        silent.sendall(b'{"verb":')
        silent.settimeout(3)
        assert silent.recv(1) == b"", "it was hung up"


def test_more_peers_than_places_cost_the_oldest_its_own(served: Path) -> None:
    with ExitStack() as stack:
        peers = [
            stack.enter_context(socket.socket(socket.AF_UNIX))
            for _ in range(channel.MOST_PEERS + 5)
        ]
        for peer in peers:
            peer.connect(str(served))
        assert ask(served, {"verb": "status"})
        peers[0].settimeout(3)
        assert peers[0].recv(1) == b""


def test_another_user_is_refused(tmp_path: Path) -> None:
    class Stranger:
        """A peer whose credentials are those of user 12345."""

        @staticmethod
        def getsockopt(*_: int) -> bytes:
            return channel._CREDENTIALS.pack(1, 12345, 12345)

    with Channel(tmp_path / "control", uid=os.getuid()) as listening:
        answer = listening._answer(cast(socket.socket, Stranger()), b"{}", handle)
    assert answer == {"ok": False, "error": "user 12345 does not own this lab"}
