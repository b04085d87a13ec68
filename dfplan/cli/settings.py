"""The settings of a training run as options of the command line, made from its dataclass."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from dfplan.tools.errors import one_of


def _truth(words: list[str]) -> bool:
    """`--option` alone, or with true or false."""
    word = words[0].lower() if len(words) == 1 else "" if words else "true"
    if word not in ("true", "false"):
        raise ValueError(f"got {' '.join(words)}, expected true or false")
    return word == "true"


_JSON = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="JSON",
    instance_from_str=lambda words: json.loads(words[0]),
    is_instance=lambda value: True,
    str_from_instance=lambda value: [json.dumps(value)],
)
_BOOL = tyro.constructors.PrimitiveConstructorSpec(
    nargs="*",
    metavar="[True|False]",
    instance_from_str=_truth,
    is_instance=lambda value: True,
    str_from_instance=lambda value: [str(value)],
)
_METAVAR = {int: "INT", float: "FLOAT", str: "STR"}


def options(cls: type[Any]) -> type[Any]:
    """A dataclass like `cls` in which every field may be left out, which is None: for tyro.

    Tables and lists of dataclasses are given as JSON, the rest in words of its own.
    """
    hints, made = get_type_hints(cls), []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            inner = options(hint)  # type: ignore[arg-type]  # a class, not an instance
            made.append((field.name, inner, dataclasses.field(default=inner())))
        elif field.init:
            default = "" if field.default is dataclasses.MISSING else f"(default: {field.default})"
            made.append((field.name, _option(hint, default), dataclasses.field(default=None)))
    out = dataclasses.make_dataclass(cls.__name__, made, frozen=True)
    told = [c.__doc__ or "" for c in reversed(cls.__mro__) if dataclasses.is_dataclass(c)]
    attributes = "".join(text.partition("Attributes:\n")[2].rstrip() + "\n" for text in told)
    out.__doc__ = f"{told[-1].partition('Attributes:')[0]}Attributes:\n{attributes}"
    return out


def _is_json(hint: Any) -> bool:
    parts = (hint, *get_args(hint))
    return any(get_origin(part) is Mapping or dataclasses.is_dataclass(part) for part in parts)


def _option(hint: Any, default: str) -> Any:
    if _is_json(hint):
        return Annotated[Any, _JSON, tyro.conf.arg(help_behavior_hint=default)]
    if hint is bool:
        return Annotated[Any, _BOOL, tyro.conf.arg(help_behavior_hint=default)]
    metavar = _METAVAR.get(hint, "FLOAT ...")
    return Annotated[hint | None, tyro.conf.arg(metavar=metavar, help_behavior_hint=default)]


def given(values: Any) -> dict[str, Any]:
    """What was given of `options`, as nested tables."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        value = (given(value) or None) if dataclasses.is_dataclass(value) else value
        if value is not None:
            out[field.name] = value
    return out


def merged(base: Mapping[str, Any], changes: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """Settings of `cls` with others in their place: tables of a dataclass field by field, other ones whole."""
    hints, out = get_type_hints(cls), dict(base)
    for key, value in changes.items():
        inside = dataclasses.is_dataclass(hints.get(key)) and isinstance(out.get(key, {}), Mapping)
        out[key] = merged(out.get(key, {}), value, hints[key]) if inside else value
    return out


def spelled_out(words: Sequence[str], *classes: type[Any]) -> list[str]:
    """Words in which each `--set a.b=1 c=[1,2]` has become `--a.b=1 --c 1 2`, options of `classes`.

    Raises:
        ValueError: something after `--set` is not key=value.
    """
    out: list[str] = []
    setting, hints = False, {k: v for cls in classes for k, v in get_type_hints(cls).items()}
    for word in words:
        if word.startswith("--"):
            setting = word == "--set"
            out += [] if setting else [word]
        elif setting:
            key, equals, text = word.partition("=")
            if not equals:
                raise ValueError(
                    f"got setting '{word}', expected key=value, such as steps=100 or model.width=64"
                )
            out += _flags(key, text, hints)
        else:
            out.append(word)
    return out


def known(key: str, *classes: type[Any]) -> None:
    """Refuse a setting `a.b` that is no field of `classes`, with the nearest name."""
    hints, before = {k: v for cls in classes for k, v in get_type_hints(cls).items()}, ""
    for part in key.split("."):
        one_of("setting", before + part, [before + name for name in hints])
        inner = hints[part]
        hints = get_type_hints(inner) if dataclasses.is_dataclass(inner) else {}
        before += f"{part}."
        if not hints:
            return  # a number, or a table of one's own


def _flags(key: str, text: str, hints: Mapping[str, Any]) -> Iterator[str]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    first, *rest = key.split(".")
    hint = hints.get(first)
    for part in rest:
        hint = get_type_hints(hint).get(part) if dataclasses.is_dataclass(hint) else None
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        for name, inner in value.items():
            yield from _flags(f"{key}.{name}", json.dumps(inner), hints)
    elif _is_json(hint) or isinstance(value, dict):
        yield f"--{key}={text}"
    elif isinstance(value, list):
        yield from (f"--{key}", *map(str, value))
    else:
        yield f"--{key}={value}"
