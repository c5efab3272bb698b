"""The model as a map: which keys stand where, so that errors, `--set` and the docs can ask."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from memlab.lab.spec import LabFile

SHORT: Final = {
    **dict.fromkeys(("tps", "balloon", "compression", "active"), "enabled"),
    **dict.fromkeys(("policy", "workload"), "name"),
}
"""Keys whose map may be written as one value, and the key which that value is."""

Path = tuple[str | int, ...]


def short_key(path: Path) -> str | None:
    """The key that a single value at `path` stands for, or None."""
    if path[-2:] in (("mechanisms", "swap"), ("active", "pressure"), ("active", "damon")):
        return "enabled"
    return SHORT.get(str(path[-1])) if path else None


def key_of(name: str, field: FieldInfo) -> str:
    """How a field is written in the file."""
    return field.alias or name


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of one part of the file."""
    return {key_of(name, field): field for name, field in model.model_fields.items()}


def plain(annotation: Any) -> Any:
    """A type without `Annotated` and without `| None`."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            rest = [part for part in get_args(annotation) if part is not type(None)]
            if len(rest) != 1:
                return annotation
            annotation = rest[0]
        else:
            return annotation


def type_at(path: Path) -> Any:
    """The type that stands at `path` of a lab file, or None if nothing may stand there."""
    kind: Any = LabFile
    for part in path:
        origin = get_origin(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = fields_of(kind).get(str(part))
            if field is None:
                return None
            kind = plain(field.annotation)
        elif origin is dict:
            kind = plain(get_args(kind)[1])
        elif origin is tuple and (isinstance(part, int) or part.isdigit()):
            kind = plain(get_args(kind)[0])
        else:
            return None
    return kind


def keys_at(path: Path) -> tuple[str, ...]:
    """The keys that may stand in the map at `path`; empty if any may, or it is no map."""
    kind = type_at(path)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return tuple(fields_of(kind))
    return ()


def is_required(path: Path) -> bool:
    """Whether the map above `path` must have this key."""
    kind = type_at(path[:-1])
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return False
    field = fields_of(kind).get(str(path[-1]))
    return field is not None and field.is_required()


def leaves(model: type[BaseModel] = LabFile, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the file as a path (`vms.NAME.image.size`), in the order of the model."""
    for key, field in fields_of(model).items():
        path, kind = f"{prefix}{key}", plain(field.annotation)
        if get_origin(kind) is dict and _is_model(inner := plain(get_args(kind)[1])):
            yield path, field
            yield from leaves(inner, f"{path}.NAME.")
        elif get_origin(kind) is tuple and _is_model(inner := plain(get_args(kind)[0])):
            yield path, field
            yield from leaves(inner, f"{path}[].")
        elif _is_model(kind):
            yield from leaves(kind, f"{path}.")
        else:
            yield path, field


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
