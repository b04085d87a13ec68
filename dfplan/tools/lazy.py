"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attach(
    package: str, where: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose `__all__` is public.

    Args:
        package: its `__name__`.
        where: module in it -> names that are taken from there; none: the module itself.
    """
    home = {name: module for module, names in where.items() for name in names or (module,)}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module = import_module(f"{package}.{home[name]}")
        return getattr(module, name) if where[home[name]] else module

    return get, lambda: sorted(sys.modules[package].__all__)
