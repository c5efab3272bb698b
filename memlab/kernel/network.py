"""A network of the lab's own: a bridge in a namespace, a tap or a veth for each that is on it.

    namespace of the lab     memlab0  10.0.255.254/16, a bridge
                             vmN      a tap (QEMU has its descriptor), or one end of a veth
    namespace of a program   eth0     the other end, 10.0.…

No link leads out of these namespaces, so nothing that is sent leaves the machine, and no address
can be one of the host's. Links are made through rtnetlink (pyroute2), taps by /dev/net/tun.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from memlab.errors import HostError
from memlab.kernel.namespace import inside, new_namespace
from memlab.kernel.undone import undone_on_failure

if TYPE_CHECKING:
    from pyroute2 import IPRoute

BRIDGE: Final = "memlab0"
BRIDGE_ADDRESS: Final = "10.0.255.254"
PREFIX: Final = 16
MOST: Final = 60_000
"""Members that there are addresses for."""
TUN: Final = Path("/dev/net/tun")
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFREQ: Final = struct.Struct("16sH22x")


@dataclass(frozen=True, slots=True)
class Seat:
    """What member number `number` (1…) is called on the network."""

    number: int

    @property
    def address(self) -> str:
        """Its IPv4 address: 10.0.0.1, 10.0.0.2, … with 250 in each of the /16's parts."""
        part, last = divmod(self.number - 1, 250)
        return f"10.0.{part}.{last + 1}"

    @property
    def mac(self) -> str:
        """Its Ethernet address, of those that everybody may give away (02:…)."""
        return f"02:6d:6c:00:{self.number >> 8:02x}:{self.number & 255:02x}"

    @property
    def link(self) -> str:
        """Its port of the bridge."""
        return f"vm{self.number}"


class LabNetwork:
    """The bridge and what is plugged into it. It owns descriptors: close it, or use `with`."""

    def __init__(self, namespace: int) -> None:
        self.namespace = namespace
        self._owned = ExitStack()
        self._owned.callback(os.close, namespace)

    @classmethod
    def make(cls) -> Self:
        """A new one, with a bridge and nobody on it; gone when it is closed. HostError."""
        network = cls(new_namespace())
        with undone_on_failure(network.close):
            network._there(_make_bridge)
        return network

    def tap(self, seat: Seat, name: str) -> int:
        """A new tap on the bridge; its descriptor, which stays this object's."""
        fd = inside(self.namespace, lambda: _open_tap(seat.link))
        self._owned.callback(os.close, fd)
        self._there(lambda ip: _plug(ip, seat.link, name))
        return fd

    def room(self, seat: Seat, name: str) -> int:
        """A namespace for a program, which has `seat` by a veth; its descriptor stays ours."""
        room = new_namespace()
        self._owned.callback(os.close, room)
        self._there(lambda ip: _make_veth(ip, seat, room))
        inside(room, lambda: _with_netlink(lambda ip: _address(ip, seat)))
        self._there(lambda ip: _plug(ip, seat.link, name))
        return room

    def close(self) -> None:
        """Let go of all of it. What nobody else holds is gone then; closing twice is harmless."""
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _there(self, work: Callable[[IPRoute], None]) -> None:
        inside(self.namespace, lambda: _with_netlink(work))


def _with_netlink(work: Callable[[IPRoute], None]) -> None:
    with _netlink() as ip:
        work(ip)


@contextmanager
def _netlink() -> Iterator[IPRoute]:
    """rtnetlink of the calling thread's namespace; HostError with the kernel's word."""
    from pyroute2 import IPRoute, NetlinkError  # 0.15 s: not for labs without a network

    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        raise HostError(
            f"the lab's network cannot be made: {error.args[-1]}",
            hint="it needs bridges and veth of the kernel: modprobe -a bridge veth tun;"
            " or leave network out of the lab file",
        ) from error


def _make_bridge(ip: IPRoute) -> None:
    ip.link("add", ifname=BRIDGE, kind="bridge")
    (index,) = ip.link_lookup(ifname=BRIDGE)
    ip.addr("add", index=index, address=BRIDGE_ADDRESS, prefixlen=PREFIX)
    ip.link("set", index=index, state="up")
    _raise_loopback(ip)


def _plug(ip: IPRoute, link: str, name: str) -> None:
    (index,) = ip.link_lookup(ifname=link)
    (bridge,) = ip.link_lookup(ifname=BRIDGE)
    ip.link("set", index=index, ifalias=name, master=bridge, state="up")


def _make_veth(ip: IPRoute, seat: Seat, room: int) -> None:
    peer = {"ifname": "eth0", "address": seat.mac, "net_ns_fd": room}
    ip.link("add", ifname=seat.link, kind="veth", peer=peer)


def _address(ip: IPRoute, seat: Seat) -> None:
    (index,) = ip.link_lookup(ifname="eth0")
    ip.addr("add", index=index, address=seat.address, prefixlen=PREFIX)
    ip.link("set", index=index, state="up")
    _raise_loopback(ip)


def _raise_loopback(ip: IPRoute) -> None:
    (index,) = ip.link_lookup(ifname="lo")
    ip.link("set", index=index, state="up")


def _open_tap(link: str) -> int:
    """A tap with the offloads' header, as QEMU has its own; it is gone with its last descriptor."""
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        with undone_on_failure(lambda: os.close(fd)):
            fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(link.encode(), flags))
    except OSError as error:
        raise HostError(
            f"{TUN} gives no tap: {error.strerror}",
            hint="modprobe tun; or leave network out of the lab file",
        ) from error
    return fd
