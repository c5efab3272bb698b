"""The network of a lab that asks for one: made, journalled, and named for whoever looks in."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from memlab.kernel.namespace import pin
from memlab.kernel.network import LabNetwork
from memlab.kernel.owner import Owner
from memlab.lab.spec import Lab

NAME: Final = "network"
"""Of its namespace, in the run directory: `nsenter --net=/run/memlab/network`."""


def make_network(lab: Lab, owner: Owner, stack: ExitStack) -> LabNetwork | None:
    """The lab's network, held until `stack` is closed; None if the lab asks for none.

    The name outlives this process, so it is journalled, and removed with all else. Without it and
    without VMs there is nothing that holds the namespace.
    """
    if not lab.network:
        return None
    network = stack.enter_context(LabNetwork.make())
    path = owner.run.path / NAME
    owner.journal.network(path)
    pin(network.namespace, path)
    return network
