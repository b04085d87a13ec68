"""Dataclasses <-> JSON: strict about names and types. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from dfplan.tools.errors import one_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


def to_dict(config: Any) -> dict[str, Any]:
    """Dataclass -> plain dictionary, ready for JSON."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def from_dict(cls: type[C], values: dict[str, Any], where: str = "") -> C:
    """Plain dictionary -> dataclass; ValueError for a key that does not exist or a value of the wrong type."""
    where = where or cls.__name__
    if not isinstance(values, dict):
        fields = [f.name for f in dataclasses.fields(cls)]
        raise ValueError(f"{where}: got {values!r}, expected a table of {fields}")
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls) if f.init]
    for key in values:
        one_of(f"key in {where}", key, names)
    typed = {k: _typed(hints[k], v, f"{where}.{k}") for k, v in values.items()}
    try:
        return cls(**typed)
    except TypeError as error:
        raise ValueError(f"{where}: {error}; expected keys {names}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _typed(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: got {value!r}, expected a table")
        return dict(value)
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where}: got {value!r}, expected a list")
        return tuple(_typed(get_args(hint)[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if get_args(hint):  # X | None
        return None if value is None else _typed(get_args(hint)[0], value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{where}: got {value!r} ({type(value).__name__}), expected {hint.__name__}")
    return value


def read_values(path: Path | str) -> dict[str, Any]:
    """Read a JSON file that holds a table; ValueError where it does not."""
    try:
        values = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); expected a table of settings") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: got {str(values)[:40]}, expected a table of settings")
    return values


def read_config(path: Path | str, cls: type[C]) -> C:
    """Read a JSON file into `cls`; a ValueError names the file, and the key that does not fit."""
    return from_dict(cls, read_values(path), str(path))
