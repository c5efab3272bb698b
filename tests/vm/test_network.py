"""The network of a lab's own: who reaches whom, and that nothing of it is left."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from memlab.kernel.namespace import inside
from memlab.kernel.rundir import place
from memlab.lab.network import NAME
from tests.faults.trial import Run, Trial, on_this_host

pytestmark = pytest.mark.vm
LAB = Path(__file__).with_name("network.yaml")


@pytest.fixture
def trial() -> Iterator[Trial]:
    with on_this_host("net-") as trial:
        yield trial


def links() -> set[str]:
    """Names of the network links of this process's namespace."""
    return {name for _, name in socket.if_nameindex()}


def holders(inode: int) -> list[str]:
    """Whatever still holds the network namespace: processes in it, descriptors, mounts."""
    name = f"net:[{inode}]"
    found = []
    for link in (*Path("/proc").glob("[0-9]*/ns/net"), *Path("/proc").glob("[0-9]*/fd/*")):
        try:
            if str(link.readlink()) == name:
                found.append(str(link))
        except OSError:
            continue
    mounts = Path("/proc/self/mountinfo").read_text()
    return found + [line for line in mounts.splitlines() if name in line]


def until_all_run(lab: Run) -> int:
    """Wait for it; the inode of the lab's namespace."""
    lab.until(lambda: lab.said.count(" runs\n") == 4, "all run", within=90)
    return (place() / NAME).stat().st_ino


def test_guests_and_programs_reach_each_other_and_nobody_else(trial: Trial) -> None:
    before = links()
    with trial.up(lab=LAB) as lab:
        inode = until_all_run(lab)
        assert lab.ask({"verb": "status"})["addresses"] == {
            "guest-1": "10.0.0.1", "guest-2": "10.0.0.2", "program": "10.0.0.3",
        }  # fmt: skip
        for one, other in (("guest-1", "guest-2"), ("guest-2", "guest-1"), ("guest-1", "program")):
            answer = lab.ask({"verb": "exec", "vm": one, "command": ["ping", other]})["answer"]
            assert 0 < answer["seconds"] < 1
        named = os.open(place() / NAME, os.O_RDONLY)
        try:
            seen = inside(named, links)
            routes = inside(named, Path("/proc/thread-self/net/route").read_text)
        finally:
            os.close(named)
        assert seen == {"lo", "memlab0", "vm1", "vm2", "vm3"}
        gateways = [line.split()[2] for line in routes.splitlines()[1:]]
        assert gateways == ["00000000"]  # to itself only
        devices = Path(f"/proc/{lab.vm('program')}/net/dev").read_text().splitlines()[2:]
        assert {line.partition(":")[0].strip() for line in devices} == {"lo", "eth0"}
        assert links() == before
        status = trial.memlab("status")
        assert "guest-2 10.0.0.2" in status.stdout
        assert lab.end(within=60) == 0
    trial.given_back()
    assert not holders(inode) and links() == before


def test_a_guest_that_moves_keeps_its_place(trial: Trial) -> None:
    lab_file = trial.folder / "moves.yaml"
    lab_file.write_text(LAB.read_text() + "timeline: [{at: 4s, migrate: guest-1}]\n")
    with trial.up(lab=lab_file, duration="10s") as lab:
        until_all_run(lab)
        lab.until(lambda: lab.events("migrated"), "it has moved", within=20)
        for one, other in (("guest-1", "guest-2"), ("guest-2", "guest-1")):
            answer = lab.ask({"verb": "exec", "vm": one, "command": ["ping", other]})["answer"]
            assert 0 < answer["seconds"] < 1
        assert lab.end(within=60) == 0


def test_kill_9_of_memlab_leaves_no_network(trial: Trial) -> None:
    with trial.up(lab=LAB, duration="30s") as lab:
        inode = until_all_run(lab)
        assert holders(inode)
        lab.main.kill()
        lab.main.wait()
        trial.given_back()
    assert not holders(inode)
    assert not (place() / NAME).exists()


def test_kill_9_of_memlab_and_of_its_guard_is_cleaned_by_the_next_command(trial: Trial) -> None:
    with trial.up(lab=LAB, duration="30s") as lab:
        inode = until_all_run(lab)
        os.kill(lab.guard, 9)
        lab.main.kill()
        lab.main.wait()
        assert trial.memlab("clean").returncode == 0
        trial.given_back()
    assert not holders(inode)
