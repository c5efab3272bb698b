"""Whether a lab may have a network of its own: found by making one, which goes with its maker."""

from __future__ import annotations

from typing import Final

from memlab.kernel.finding import Feature, Finding, tried
from memlab.kernel.network import LabNetwork, Seat

_REPAIR: Final = "modprobe -a bridge veth tun; in a container: docker run --privileged"


def probe_network(*, root: bool) -> Finding:
    """Whether there are network namespaces, bridges, veth and taps."""
    how = "made a bridge, a veth and a tap in a namespace of its own, and let go of it"

    def made() -> str:
        with LabNetwork.make() as network:
            network.room(Seat(1), "room")
            network.tap(Seat(2), "tap")
        return "all of it was made"

    affects = ("network: on",)
    return tried(Feature.NETWORK, how, made, repair=_REPAIR, affects=affects, root=root)
