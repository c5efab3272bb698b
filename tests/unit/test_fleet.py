"""The VMs of a lab, where one of them cannot even be started."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from memlab.errors import VmError
from memlab.kernel.journal import Journal
from memlab.lab.fleet import Fleet
from memlab.lab.guests import Guests
from memlab.lab.load import loads
from memlab.lab.place import Invoker
from memlab.lab.stage import Stage
from memlab.vm import process
from memlab.vm.child import Places
from memlab.vm.process import ProcessVm

LAB = "name: one\nhost: {memory: 32MiB}\nmechanisms: {swap: off, compression: off}\n"


def test_stopping_the_rest_does_not_hide_why_one_did_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = loads(f"{LAB}vms: {{one: {{memory: 8MiB}}}}\n").lab
    fleet = Fleet(
        lab, cast("Stage", None), cast("Journal", None), run=tmp_path,
        invoker=Invoker(0, 0), guests=cast("Guests", None), watch=lambda _: None,
    )  # fmt: skip
    monkeypatch.setattr(process, "agent_path", lambda: tmp_path / "no-agent")
    machine = ProcessVm(lab.vms[0].config(owner=1), Places(tmp_path))
    fleet.machines["one"] = machine
    with pytest.raises(VmError):
        machine.ended()
    with pytest.raises(VmError, match="cannot be started"):
        machine.start()
    fleet.stop()
