"""The box's channel without QEMU: the agent as a local process on a socketpair."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from memlab.box.client import Running, Streams
from memlab.box.machine import Machine
from memlab.box.mirror import Landing, Watch
from memlab.box.wire import Decoder, Message, WireError, encode


@contextmanager
def agent(tmp_path: Path) -> Iterator[Machine]:
    ours, theirs = socket.socketpair()
    console = (tmp_path / "console").open("w+b")
    process = subprocess.Popen(
        [sys.executable, "-m", "memlab.box.agent", str(theirs.fileno())],
        pass_fds=[theirs.fileno()], stdout=console, stderr=console,
    )  # fmt: skip
    theirs.close()
    machine = Machine(process, ours, console, Decoder())
    try:
        machine.wait_for("hello", 10)
        yield machine
    finally:
        machine.end()


class Caught:
    def __init__(self) -> None:
        self.out, self.err = b"", b""

    def streams(self, stdin: int | None = None) -> Streams:
        def out(data: bytes) -> None:
            self.out += data

        def err(data: bytes) -> None:
            self.err += data

        return Streams(out, err, stdin)


def run(machine: Machine, script: str, caught: Caught, stdin: int | None = None) -> int:
    running = Running(machine, caught.streams(stdin))
    return running.run(["sh", "-c", script], cwd=Path("/"), env={"PATH": os.environ["PATH"]})


def test_messages_survive_any_cut_of_the_stream() -> None:
    stream = encode("out", b"a\nb", id=1) + encode("eof", id=2) + encode("err", b"", id=3)
    for step in (1, 2, 3, 7, len(stream)):
        decoder = Decoder()
        found = [
            message
            for at in range(0, len(stream), step)
            for message in decoder.feed(stream[at : at + step])
        ]
        assert found == [
            Message("out", {"id": 1}, b"a\nb"),
            Message("eof", {"id": 2}),
            Message("err", {"id": 3}),
        ]


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b'{"t":"out"}\n'])
def test_another_protocol_is_refused(line: bytes) -> None:
    with pytest.raises(WireError):
        list(Decoder().feed(line))


def test_streams_apart_and_the_exit_status(tmp_path: Path) -> None:
    caught = Caught()
    with agent(tmp_path) as machine:
        assert run(machine, "echo out; echo err >&2; exit 7", caught) == 7
    assert (caught.out, caught.err) == (b"out\n", b"err\n")


def test_a_large_output_comes_whole(tmp_path: Path) -> None:
    caught = Caught()
    with agent(tmp_path) as machine:
        assert run(machine, "head -c 5000000 /dev/zero", caught) == 0
    assert caught.out == bytes(5_000_000)


def test_standard_input_and_its_end(tmp_path: Path) -> None:
    caught = Caught()
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\n")
    os.close(writer)
    with agent(tmp_path) as machine:
        assert run(machine, "cat; echo end", caught, reader) == 0
    os.close(reader)
    assert caught.out == b"one\ntwo\nend\n"


def test_a_plain_file_as_standard_input(tmp_path: Path) -> None:
    caught = Caught()
    (tmp_path / "input").write_bytes(b"x" * 200_000)
    with agent(tmp_path) as machine, (tmp_path / "input").open("rb") as file:
        assert run(machine, "wc -c", caught, file.fileno()) == 0
    assert caught.out.strip() == b"200000"


def test_a_signal_reaches_the_command_and_all_it_has_started(tmp_path: Path) -> None:
    with agent(tmp_path) as machine:
        sent = iter([signal.SIGTERM])

        def kill(number: int) -> None:
            os.kill(os.getpid(), number)

        running = Running(machine, Caught().streams(), idle=lambda: kill(next(sent, 0)))
        words = ["sh", "-c", "sleep 60 | sleep 60"]
        assert running.run(words, cwd=Path("/"), env={"PATH": os.environ["PATH"]}) == 128 + 15


def test_a_daemon_that_keeps_the_pipe_holds_nobody_up(tmp_path: Path) -> None:
    caught = Caught()
    with agent(tmp_path) as machine:
        assert run(machine, "sleep 30 & echo $!", caught) == 0
    os.kill(int(caught.out), signal.SIGKILL)


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    from memlab.errors import MemlabError

    with agent(tmp_path) as machine, pytest.raises(MemlabError, match="no-such-command"):
        Running(machine, Caught().streams()).run(["no-such-command"], cwd=Path("/"), env={})


def test_what_is_written_comes_out_as_it_is_inside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    script = (
        f"cd {inside}; mkdir -p a/b; echo one >a/b/c; chmod 700 a/b/c; : >empty; echo two >x.log"
    )
    with agent(tmp_path) as machine:
        machine.send("attach", mirror=str(inside))
        machine.wait_for("attached", 10)
        running = Running(machine, Caught().streams(), landing=Landing(outside))
        words = ["sh", "-c", script]
        assert running.run(words, cwd=Path("/"), env={"PATH": os.environ["PATH"]}) == 0
    assert (outside / "a/b/c").read_text() == "one\n"
    assert (outside / "a/b/c").stat().st_mode & 0o777 == 0o700
    assert (outside / "empty").read_bytes() == b""
    assert (outside / "x.log").read_text() == "two\n"
    assert not list(outside.rglob("*.memlab-part"))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_the_box_cannot_write_outside_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(WireError):
        Landing(tmp_path).take(Message("file", {"path": name, "at": 0, "grow": True}, b"x"))


def test_the_box_cannot_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "land").mkdir()
    (tmp_path / "land/link").symlink_to(tmp_path)
    with pytest.raises(WireError):
        Landing(tmp_path / "land").take(
            Message("file", {"path": "link/x", "at": 0, "grow": True}, b"x")
        )


class Linked:
    """Both halves of the mirror, without a wire between."""

    def __init__(self, inside: Path, outside: Path) -> None:
        inside.mkdir()
        outside.mkdir()
        self.landing = Landing(outside)
        self.watch = Watch(inside, self.take)
        self.sent = 0

    def take(self, kind: str, data: bytes = b"", **facts: Any) -> None:
        self.sent += len(data)
        self.landing.take(Message(kind, facts, data))


def count(path: Path) -> int:
    """Rows, read from copies as after a kill; the file must be whole."""
    with tempfile.TemporaryDirectory() as made:
        for end in ("", "-wal"):
            if path.with_name(path.name + end).exists():
                shutil.copy(path.with_name(path.name + end), made)
        with closing(sqlite3.connect(Path(made) / path.name)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return int(database.execute("SELECT count(*) FROM t").fetchone()[0])


@pytest.mark.parametrize("seed", range(6))
def test_a_database_is_whole_outside_whatever_its_writer_does(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    linked = Linked(tmp_path / "in", tmp_path / "out")
    outside = tmp_path / "out/db.sqlite"
    with closing(sqlite3.connect(tmp_path / "in/db.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        database.execute("CREATE TABLE t (x)")
        rows = 0
        for _ in range(60):
            for _ in range(chance.randrange(4)):
                database.execute("INSERT INTO t VALUES (randomblob(3000))")
                rows += 1
            if chance.random() < 0.2:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")
            if chance.random() < 0.6:
                linked.watch.scan()
                assert count(outside) == rows
        database.execute("PRAGMA journal_mode=DELETE")
    linked.watch.scan()
    assert count(outside) == rows
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["db.sqlite"]


def test_what_has_not_changed_is_not_sent_again(tmp_path: Path) -> None:
    linked = Linked(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/whole").write_bytes(b"x" * 1000)
    (tmp_path / "in/a.log").write_bytes(b"y" * 1000)
    assert linked.watch.scan() and linked.sent == 2000
    assert not linked.watch.scan() and linked.sent == 2000
    with (tmp_path / "in/a.log").open("ab") as file:
        file.write(b"z")
    assert linked.watch.scan() and linked.sent == 2001
    assert (tmp_path / "out/a.log").read_bytes() == b"y" * 1000 + b"z"
