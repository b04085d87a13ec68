"""What a user names: one of ours, or `module:Name` of their own."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Mapping
from typing import TypeVar

from dfplan.tools.errors import one_of

T = TypeVar("T")


def named(what: str, name: str, known: Mapping[str, T]) -> T:
    """What `name` stands for: a key of `known`, or `module:Name`, which is imported.

    Args:
        what: what is named, for messages, e.g. `"format"`.
        name: `"npz"`, or `"my_package.formats:Rosetta"`; after the colon attributes may be nested (`A.b`).
        known: our own, by name.

    Raises:
        ValueError: an unknown name, with the nearest one; or a module or attribute that is not there.
    """
    module, colon, attributes = name.partition(":")
    if not colon:
        return known[one_of(what, name, known)]
    try:
        found = importlib.import_module(module)
    except (ImportError, ValueError, TypeError) as error:
        raise ValueError(
            f"got {what} '{name}', but '{module}' cannot be imported ({error}); expected module:Name of a module "
            f"on Python's path, or one of {', '.join(known)}"
        ) from error
    for part in attributes.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), 1, 0.4)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"got {what} '{name}', but there is no '{part}' in {module}, expected module:Name{hint}"
            )
        found = getattr(found, part)
    return found  # type: ignore[return-value]


def trusted(key: str, text: str) -> None:
    """Refuse what a checkpoint names before it runs: ours is trusted, or a user's module without parameters."""
    for module, name, inside in re.findall(r"([\w.]+):([\w.]+)\s*(\([^()]*\))?", text):
        root = module.split(".")[0]
        ours = root == "dfplan" and "." not in name
        if not ours and (root == "dfplan" or root in sys.stdlib_module_names or inside.strip("( )")):
            raise ValueError(
                f"the checkpoint asks for {key}='{text}', which is neither dfplan's nor a plain module:Name of yours; "
                "look at it, and give it yourself if you trust it"
            )
