from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from memlab.errors import HostError, KernelError
from memlab.kernel.namespace import inside, new_namespace, pin, unpin
from memlab.kernel.network import BRIDGE, BRIDGE_ADDRESS, LabNetwork, Seat

pytestmark = pytest.mark.kernel
PORT = 7000


def names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def test_two_rooms_talk_and_the_host_cannot_be_reached() -> None:
    before = names()
    one, other = Seat(1), Seat(251)
    with LabNetwork.make() as network:
        first, second = network.room(one, "first"), network.room(other, "second")
        server = inside(first, lambda: socket.create_server((one.address, PORT)))
        with (
            server,
            inside(second, lambda: socket.create_connection((one.address, PORT), 2)) as client,
        ):
            accepted, (came_from, _) = server.accept()
            with accepted:
                client.sendall(b"hello")
                assert accepted.recv(5) == b"hello"
            assert came_from == other.address
        host = socket.create_server(("0.0.0.0", 0))
        with host, pytest.raises(OSError, match="unreachable"):
            # No route: not even to the host's own addresses.
            inside(second, lambda: socket.create_connection(("192.0.2.1", PORT), 2))
        assert inside(network.namespace, names) == {"lo", BRIDGE, one.link, other.link}
        assert inside(first, names) == {"lo", "eth0"}
        assert names() == before
    assert names() == before


def test_a_tap_is_a_port_of_the_bridge_and_ends_with_the_network() -> None:
    network = LabNetwork.make()
    tap = network.tap(Seat(3), "guest")
    assert "vm3" in inside(network.namespace, names)
    alias = inside(
        network.namespace, lambda: Path("/proc/thread-self/net/dev").read_text().count("vm3")
    )
    assert alias == 1
    network.close()
    network.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(tap)


def test_a_seat_is_given_once() -> None:
    with LabNetwork.make() as network:
        network.tap(Seat(3), "guest")
        with pytest.raises(HostError, match="gives no tap"):
            network.tap(Seat(3), "guest")
        network.room(Seat(4), "room")
        with pytest.raises(HostError, match="cannot be made"):
            network.room(Seat(4), "room")


def test_a_namespace_keeps_its_links_by_its_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "network"
    network = LabNetwork.make()
    pin(network.namespace, path)
    network.close()
    named = os.open(path, os.O_RDONLY)
    assert inside(named, names) == {"lo", BRIDGE}
    os.close(named)
    assert unpin(path)
    assert path.is_file() and path.read_bytes() == b""
    assert not unpin(path)
    assert not unpin(tmp_path / "another")


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "network"
    path.touch()
    namespace = new_namespace()
    with pytest.raises(KernelError, match="File exists"):
        pin(namespace, path)
    os.close(namespace)
    with pytest.raises(KernelError, match="mount"):
        pin(namespace, tmp_path / "other")
    assert BRIDGE_ADDRESS == "10.0.255.254"
