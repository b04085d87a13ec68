"""One file over HTTP: resumed, checked, and in place only when it is whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from dfplan.data.files import begins
from dfplan.data.formats.hdf5 import SIGNATURE, hdf5_names

_BLOCK = 1 << 18


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    timeout: float = 5.0,
    waits: Sequence[float] = (1.0, 2.0, 4.0),
) -> None:
    """Download an HDF5 file to `target`.

    What has arrived stays in `target` + '.part'; a later call, or a retry in this one after a cut
    connection, asks the server for the rest only. A server that cannot resume, or whose file has changed
    since, sends the whole file again. `target` appears at the end, in one step.

    Args:
        url: where the file is.
        target: where it goes; its folder must exist.
        sha256: expected digest in hexadecimal, or None where none is published.
        timeout: seconds to wait for a connection, or for the next bytes.
        waits: seconds before each retry in a row that brings nothing; without any byte from the server in
            this call there is no retry, so a machine without network learns it at once.

    Raises:
        OSError: no network, the server refuses, or it sends something that is not HDF5, or not whole.
        ValueError: the file differs from `sha256`; it is deleted.
    """
    part = target.with_name(target.name + ".part")
    failures, most, begun = 0, _size(part) if _tag(part).exists() else 0, False
    while True:
        before = _size(part)
        try:
            _receive(url, part, timeout)
            break
        except (OSError, http.client.HTTPException) as error:
            code = error.code if isinstance(error, urllib.error.HTTPError) else 0
            if code == 416 and before:  # what is here is longer than the file: asked for anew
                _discard(part)
                continue
            gained = _size(part) > most  # further than ever, so it ends
            most, begun = max(most, _size(part)), begun or gained
            failures = 0 if gained else failures + 1
            if 0 < code < 500 or not begun or failures > len(waits):
                raise OSError(f"{url}: {error}") from error
            time.sleep(waits[failures - 1] if failures else 0.0)
    _check(url, part, sha256)
    os.replace(part, target)
    _tag(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Bytes in the file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def _tag(part: Path) -> Path:
    """Where the server's name for this version of the file (ETag or date) is kept beside a part."""
    return part.with_name(part.name + ".tag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _receive(url: str, part: Path, timeout: float) -> None:
    """One request: append the missing rest to `part`, or write it anew where the server cannot resume."""
    have = _size(part) if _tag(part).exists() else 0
    headers = {"User-Agent": "dfplan", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": _tag(part).read_text()}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
        where, tags = response.headers.get("Content-Range", ""), _tags(response.headers)
        resumed = response.status == 206 and where.startswith(f"bytes {have}-")
        if response.status == 206 and not (resumed and (not tags or headers.get("If-Range") in tags)):
            _discard(part)
            raise ConnectionError(f"the server sent another part ({where}), or a part of another version")
        if not resumed:
            have = 0
            _discard(part)
            _keep_tag(part, response.headers)
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        _write(response, part, have, total)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection ended after {_size(part)} of {total} bytes")


def _keep_tag(part: Path, headers: http.client.HTTPMessage) -> None:
    """Store what `If-Range` needs: a strong ETag, else the date; with neither there is no resuming."""
    for tag in _tags(headers)[:1]:
        _tag(part).write_text(tag)


def _tags(headers: http.client.HTTPMessage) -> list[str]:
    """What tells this version of a file from others, the surest first."""
    tag, date = headers.get("ETag", ""), headers.get("Last-Modified", "")
    return [text for text in ("" if tag.startswith("W/") else tag, date) if text]


def _write(response: http.client.HTTPResponse, part: Path, have: int, total: int | None) -> None:
    """Copy the body to the end of `part`, with a progress bar that shows the time left."""
    from tqdm import tqdm

    label = part.name.removesuffix(".part")
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, unit_divisor=1024, desc=label)
    with bar, part.open("ab") as file:
        while block := response.read(_BLOCK):
            file.write(block)
            bar.update(len(block))


def _check(url: str, part: Path, sha256: str | None) -> None:
    """Delete and refuse a whole part that is not the file it should be."""
    if not begins(part, SIGNATURE):
        _discard(part)
        raise OSError(f"{url}: the server sent something that is not HDF5 (a login or error page?)")
    try:
        hdf5_names(part)
    except ValueError as error:
        _discard(part)
        raise OSError(f"{url}: what came is not whole ({error})") from error
    if sha256 is None:
        return
    got = hashlib.sha256()
    with part.open("rb") as file:
        while block := file.read(_BLOCK):
            got.update(block)
    if got.hexdigest() != sha256.lower():
        _discard(part)
        raise ValueError(
            f"{url}: got SHA-256 {got.hexdigest()}, expected {sha256.lower()}; the download was deleted: "
            "try again, and if it repeats, the published file has changed"
        )
