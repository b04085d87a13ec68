"""A repository on the Hub: its name, which files belong in it, and what the Hub answers in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dfplan.tools.errors import optional_import

CARD = "README.md"
_KINDS: dict[str, tuple[str, ...]] = {"model": (".json", ".safetensors", ".md")}
_KINDS["dataset"] = tuple(
    ".json .jsonl .md .parquet .hdf5 .h5 .npz .npy .zarr.zip .zarray .zgroup .zattrs .zmetadata".split()
)
_CHUNK = re.compile(r"(c|\d+(\.\d+)*)")  # of a zarr array
_LEFT = tuple(".gitattributes .gif .jpeg .jpg .mp4 .png .webp".split())


@dataclass(frozen=True)
class Repository:
    """A repository.

    Attributes:
        id: `OWNER/NAME`.
        kind: `model` or `dataset`.
    """

    id: str
    kind: str

    def __str__(self) -> str:
        """As the Hub's addresses have it."""
        return f"datasets/{self.id}" if self.kind == "dataset" else self.id

    def sorted_out(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """Files that dfplan reads, and pictures and films, which it does not.

        Raises:
            ValueError: there are others, or names that lead out of a folder.
        """
        taken, left, others = list[str](), list[str](), list[str]()
        for name in sorted(names):
            *folders, last = name.split("/")
            chunk = self.kind == "dataset" and folders and _CHUNK.fullmatch(last)
            outside = "\\" in name or ":" in name or {"", ".", ".."} & {*folders, last}
            known = last.endswith(_KINDS[self.kind]) or chunk
            (others if outside else taken if known else left if last.endswith(_LEFT) else others).append(name)
        if others:
            raise ValueError(
                f"{self} holds {', '.join(others[:5])}{' and more' if len(others) > 5 else ''}, expected of a {self.kind} "
                f"{' '.join(_KINDS[self.kind])} alone, which nothing unpickles or runs; take the others out"
            )
        return taken, left


def named(name: str) -> Repository:
    """The repository of `OWNER/NAME`, a model's, or `datasets/OWNER/NAME`, a data set's.

    Raises:
        ValueError: it is neither.
    """
    found = re.fullmatch(r"(datasets/)?([\w.-]+/[\w.-]+)", name)
    if not found:
        raise ValueError(
            f"got '{name}', expected OWNER/NAME of a model on the Hub, or datasets/OWNER/NAME of a data set"
        )
    return Repository(found[2], "dataset" if found[1] else "model")


def library() -> Any:
    """The package `huggingface_hub`."""
    return optional_import("huggingface_hub", "hub")


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turns whatever the Hub, or the way to it, refuses into one line that begins with `what`."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{what}: the Hub shows you no such repository; check the name (a data set's begins with datasets/), and log in "
            "with `hf auth login` if it is private"
        ) from error
    except Exception as error:  # of several libraries of HTTP, by version
        said = getattr(error, "server_message", None) or str(error) or type(error).__name__
        said = said.strip().removesuffix(".")
        status = getattr(getattr(error, "response", None), "status_code", None)
        fix = (
            "log in with `hf auth login`, as somebody who may"
            if status in (401, 403)
            else "check the network and what it says, then try again"
        )
        raise ValueError(f"{what}: {said}; {fix}") from error
