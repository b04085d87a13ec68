"""To the Hub: a model as models are shipped, or demonstrations as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dfplan.data import load
from dfplan.data.formats.registry import detect
from dfplan.hub.card import data_card, model_card
from dfplan.hub.repository import CARD, Repository, asking, library, named
from dfplan.models import find
from dfplan.train import checkpoint


def push(
    source: str | os.PathLike[str],
    to: str,
    *,
    private: bool = False,
    license: str = "",
    read: Mapping[str, Any] | None = None,
) -> str:
    """Make or renew a repository on the Hub, in one commit; gives its address.

    Of a model that use needs alone, weights in half precision (`checkpoint.export`); of demonstrations the file, or
    all files of the folder. The card is written anew, unless the folder has a README.md. Weights and data that are no
    longer part of it leave the repository.

    Args:
        source: run folder, checkpoint folder, name of a shipped model, or file or folder of demonstrations.
        to: `OWNER/NAME`; of demonstrations also `datasets/OWNER/NAME`.
        private: the repository is made private.
        license: its short name on the Hub, such as `mit`; none is stated where it is left out.
        read: of demonstrations, options of their reader that are needed to read them.

    Raises:
        ValueError: no such model or data, files that `pull` would refuse, or what the Hub answers.
        ImportError: huggingface_hub is not installed.
    """
    library()
    path, target = Path(source).expanduser(), named(to)
    if path.exists() and not any(checkpoint.exists(place) for place in (path / "checkpoint", path)):
        target = Repository(target.id, "dataset")
        return _commit(target, _data(path, target, license, dict(read or {})), private)
    model = find(source)
    if read or target.kind == "dataset":
        raise ValueError(
            f"got {f'read={dict(read)}' if read else to} with {source}, which is a model; leave it out"
        )
    with TemporaryDirectory() as place:
        folder = Path(place) / "model"
        checkpoint.export(model, folder)
        state = model / "training.json"
        done = checkpoint.read_json(state)["step"] if state.exists() else None
        card = model_card(target, checkpoint.load(folder), done, license)
        return _commit(target, {**_files(folder), CARD: card.encode()}, private)


def _data(path: Path, to: Repository, license: str, read: dict[str, Any]) -> dict[str, Path | bytes]:
    """Name in the repository -> file or contents."""
    episodes, form = load(path, **read), detect(path, read.get("read_as"))
    files: dict[str, Path | bytes] = {**(_files(path) if path.is_dir() else {path.name: path})}
    to.sorted_out(files)
    if CARD not in files:
        card = data_card(to, "" if path.is_dir() else path.name, form, episodes, read, license)
        files[CARD] = card.encode()
    elif license:
        raise ValueError(
            f"got license={license}, but {path / CARD} is the card that goes along; say it there"
        )
    return files


def _files(folder: Path) -> dict[str, Path]:
    """Files of a folder by name, but what git and the Hub keep there for themselves."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name.as_posix(): path for name, path in found.items() if not {".git", ".cache"} & set(name.parts)}


def _commit(to: Repository, files: Mapping[str, Path | bytes], private: bool) -> str:
    hub = library()
    api = hub.HfApi(library_name="dfplan")
    with asking(f"{to} cannot be written"):
        address = api.create_repo(to.id, repo_type=to.kind, private=private or None, exist_ok=True)
        there = api.repo_info(to.id, repo_type=to.kind)
    if private and not there.private:
        raise ValueError(
            f"got private, but {to} is there already and public; nothing was sent: choose another name"
        )
    before, _ = to.sorted_out(file.rfilename for file in there.siblings)
    with asking(f"{to} cannot be written"):
        added = [
            hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()
        ]
        old = [name for name in before if name not in files and not name.endswith(".md")]
        gone = [hub.CommitOperationDelete(path_in_repo=name) for name in old]
        api.create_commit(to.id, [*added, *gone], repo_type=to.kind, commit_message=f"{to.kind} of dfplan")
    return str(address)
