"""Independent pieces of work on Ray: begun anew elsewhere where a process or a machine dies."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from dfplan.tools.errors import optional_import

A = TypeVar("A")
R = TypeVar("R")

LOCAL = "local"
"""The address of a cluster that is this machine, for as long as the work lasts."""
TRIES = 10
"""How often a piece of work is begun anew where it dies with its process; what raises an error is not."""


@contextmanager
def _joined(address: str, workers: int) -> Iterator[Any]:
    """The cluster at an address (`local`, `auto` or HOST:PORT), left at the end."""
    ray: Any = optional_import("ray", "cluster")
    quiet = (
        {"log_to_driver": False, "include_dashboard": False} if address == LOCAL else {"log_to_driver": False}
    )
    try:
        ray.init(address, logging_level="ERROR", **quiet,
                 **({"num_cpus": workers} if address == LOCAL else {}))  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _refused(address, error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _heard(address: str) -> None:
    """Refuse an address at which nobody answers: Ray would try for minutes, and end the process."""
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _refused(address, error) from error


def _refused(address: str, error: Exception) -> ValueError:
    return ValueError(
        f"got cluster '{address}', which cannot be joined ({str(error).splitlines()[0]}); begin one with `ray start --head` "
        f"and give its HOST:PORT, or '{LOCAL}' for this machine"
    )


def mapped(
    function: Callable[[A], R], items: Sequence[A], address: str = LOCAL, workers: int = 1
) -> Iterator[tuple[int, R | Exception]]:
    """What a function makes of each item, as it comes.

    Every piece takes one CPU of the cluster. What is lost with a process or a machine is made anew; each item comes
    exactly once.

    Args:
        function: of one item, importable by name on every machine; what it needs from disk is there too.
        items: what it is called with.
        address: of the cluster.
        workers: most pieces at a time.

    Returns:
        iterates over (place of the item, what was made of it or the error that was raised).

    Raises:
        ImportError: ray is not installed.
        ValueError: the cluster cannot be joined.
    """
    optional_import("ray", "cluster")
    _heard(address)
    return _mapped(function, items, address, workers)


def _mapped(
    function: Callable[[A], R], items: Sequence[A], address: str, workers: int
) -> Iterator[tuple[int, R | Exception]]:
    with _joined(address, workers) as ray:
        task = ray.remote(num_cpus=1, max_retries=TRIES)(function)
        left, running = list(enumerate(items))[::-1], dict[Any, int]()
        while left or running:
            while left and len(running) < workers:
                place, item = left.pop()
                running[task.remote(item)] = place
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            yield running.pop(done), _result(ray, done)


def _result(ray: Any, done: Any) -> Any:
    """What became of a piece of work: what it returned, or its own error."""
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except ray.exceptions.RayError as error:  # it died each time
        return RuntimeError(str(error).splitlines()[0])
