from __future__ import annotations

import pytest

from memlab.kernel import namespace
from memlab.kernel.network import MOST, Seat


def test_every_member_has_addresses_of_its_own() -> None:
    seats = [Seat(number) for number in range(1, MOST + 1)]
    assert len({seat.address for seat in seats}) == len({seat.mac for seat in seats}) == MOST
    assert seats[0].address == "10.0.0.1"
    assert seats[250].address == "10.0.1.1"
    assert max(int(seat.address.split(".")[2]) for seat in seats) < 255  # the bridge's part
    assert all(len(seat.link) < 16 for seat in seats)  # IFNAMSIZ


def test_whatever_goes_wrong_elsewhere_is_heard_here() -> None:
    def work() -> None:
        raise ModuleNotFoundError("pyroute2")

    with pytest.raises(ModuleNotFoundError, match="pyroute2"):
        namespace._elsewhere(work)
