from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from memlab.lab.load import bundled, loads
from memlab.lab.model import leaves
from memlab.lab.schema import DRAFT, schema
from memlab.lab.spec import Lab, LabFile, VmFields, VmSpec, WorkloadSpec
from memlab.lab.yamlfile import read
from memlab.units import MIB
from memlab.vm.base import Backend, Content

SCHEMA = schema()
SMALL: dict[str, Any] = {
    "name": "t",
    "host": {"memory": "64MiB"},
    "vms": {"web": {"memory": "8MiB"}},
}


def check(tree: dict[str, Any]) -> None:
    jsonschema.validate(tree, SCHEMA, cls=jsonschema.Draft202012Validator)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == DRAFT
    assert SCHEMA["$id"] == "urn:memlab:lab-file:1"


@pytest.mark.parametrize("path", bundled(), ids=lambda path: path.stem)
def test_bundled_labs_fit_the_schema(path: Any) -> None:
    check(read(path.read_text("utf-8")).tree)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("host.memory", 64),
        ("host.memory", "64MB"),
        ("duration", 40),
        ("mechanisms.tps", "maybe"),
        ("policy", 3),
        ("name", "Bad Name"),
        ("vms.web.wrkload", "idle"),
        ("vms.web.workload", "keyvalu"),
        ("vms.web.content", {"zero": 0.3}),
        ("vms", {}),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(path: str, value: Any) -> None:
    tree: dict[str, Any] = {**SMALL, "vms": {"web": dict(SMALL["vms"]["web"])}}
    at = tree
    *above, last = path.split(".")
    for part in above:
        at[part] = dict(at.get(part, {}))
        at = at[part]
    at[last] = value
    with pytest.raises(jsonschema.ValidationError):
        check(tree)
    with pytest.raises(ValidationError):
        LabFile.model_validate(tree)


def test_short_forms_and_free_keys_fit_the_schema() -> None:
    check({**SMALL, "mechanisms": {"tps": "on", "swap": False}, "policy": "ladder", "x-any": [1]})
    check({**SMALL, "vms": {"web": {"memory": "8MiB", "workload": "scan", "limit": "50%"}}})


def test_every_field_of_the_model_is_in_the_schema_with_its_meaning() -> None:
    def described(part: dict[str, Any]) -> set[str]:
        found = set()
        for key, value in part.get("properties", {}).items():
            if value.get("description"):
                found.add(key)
        return found

    parts = [SCHEMA, *SCHEMA["$defs"].values()]
    known = set().union(*(described(part) for part in parts))
    for path, _ in leaves():
        assert path.rpartition(".")[2].removesuffix("[]") in known, path


def test_a_vm_becomes_its_configuration() -> None:
    vm = VmSpec.model_validate(
        {
            "name": "web-1", "entry": "web", "memory": "64MiB", "backend": "qemu", "huge": "on",
            "image": {"name": "debian", "size": "8MiB", "common": "50%", "compressible": "3:1"},
            "content": {"zero": "10%"}, "guest_swap": "4MiB", "cache_file": "16MiB",
            "workload": {"name": "keyvalue", "size": "16MiB", "args": {"writes": "5%"}},
            "limit": "50%", "reservation": "25%",
        }
    )  # fmt: skip
    config = vm.config(owner=3, seed=9, mergeable=False)
    assert (config.name, config.owner, config.memory, config.seed) == ("web-1", 3, 64 * MIB, 9)
    assert (config.backend, config.huge, config.mergeable) == (Backend.QEMU, True, False)
    assert (config.guest_swap, config.cache_file) == (4 * MIB, 16 * MIB)
    assert config.image.content == Content(common=0.5, compressible=3)
    assert config.workload.content == Content(zero=0.1)
    assert (config.workload.name, dict(config.workload.args)) == ("keyvalue", {"writes": 0.05})
    assert type(config.workload.name) is str
    assert (vm.limit, vm.reservation) == (32 * MIB, 16 * MIB)


def test_real_guests_and_programs_have_a_place_on_the_network() -> None:
    memory = {"memory": "128MiB"}
    vms = {
        "idle": memory,
        "guest": memory | {"backend": "qemu", "count": 2},
        "program": memory | {"command": ["true"]},
    }
    text = json.dumps(SMALL | {"vms": vms, "network": "on", "host": {"memory": "256MiB"},
                               "mechanisms": {"compression": "off", "swap": "off"}})  # fmt: skip
    lab = loads(text).lab
    assert {name: seat.address for name, seat in lab.seats.items()} == {
        "guest-1": "10.0.0.2", "guest-2": "10.0.0.3", "program": "10.0.0.4",
    }  # fmt: skip
    for number, vm in enumerate(lab.vms, start=1):
        assert vm.config(owner=number, network=True).network == lab.seats.get(vm.name)
        assert vm.config(owner=number).network is None
    assert not lab.model_copy(update={"network": False}).seats


def test_models_are_frozen_and_share_their_fields() -> None:
    vm = VmFields()
    with pytest.raises(ValidationError):
        vm.shares = 3
    assert set(LabFile.model_fields) - set(Lab.model_fields) == {"defaults", "groups"}
    assert WorkloadSpec().arguments == {}
