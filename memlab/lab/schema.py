"""The JSON Schema of lab files (draft 2020-12), made from the same model that checks them."""

from __future__ import annotations

from typing import Any, Final

from memlab.lab.model import SHORT
from memlab.lab.spec import LabFile
from memlab.lab.values import NAME_PATTERN

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
ID: Final = "urn:memlab:lab-file:1"
_SHORT_FORMS: Final[dict[str, dict[str, Any]]] = {
    "enabled": {"enum": ["on", "off", True, False]},
    "name": {"type": "string"},
}


def schema() -> dict[str, Any]:
    """The schema as plain values."""
    made = LabFile.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = made["$defs"]
    for part in (made, *definitions.values()):
        for key, value in part.get("properties", {}).items():
            if key in SHORT or (key == "swap" and "tps" in part["properties"]):
                _allow_short(value, SHORT.get(key, "enabled"), definitions)
            # Values may come from the environment, and then they are text here.
            if isinstance(value.get("propertyNames"), dict):
                value["propertyNames"] = {"pattern": NAME_PATTERN}
    made["patternProperties"] = {"^x-": True}
    return {"$schema": DRAFT, "$id": ID, **made, "title": "memlab lab file"}


def _allow_short(value: dict[str, Any], key: str, definitions: dict[str, Any]) -> None:
    """A map that may be written as one value: `tps: on`, `workload: idle`."""
    reference = value.pop("$ref", None)
    if reference is None:
        return
    inside = definitions[reference.rpartition("/")[2]]["properties"][key]
    form = {k: v for k, v in inside.items() if k not in ("default", "description", "title")}
    value["anyOf"] = [{"$ref": reference}, form or _SHORT_FORMS[key]]
