"""torch's noise without torch: a seed draws the same numbers with and without it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16


def generator_of(seed: int | None) -> np.random.RandomState:
    """torch's generator of that seed, on the CPU, is this one: a Mersenne twister seeded by 32 bits; None: any seed."""
    return np.random.RandomState(None if seed is None else int(seed) & 0xFFFFFFFF)


def normal(generator: np.random.RandomState, *shape: int) -> NDArray[np.float32]:
    """Standard normal numbers as `torch.randn` draws them on the CPU, but for rounding, where they are 16 or more.

    Uniform numbers of 24 bits; the first and last eight of each 16 make 16 normal ones (Box and Muller 1958). Where the
    count is no multiple of 16, the last 16 are drawn anew.
    """
    count = int(np.prod(shape))
    out = _uniform(generator, max(count, _BLOCK))
    whole = len(out) - len(out) % _BLOCK
    out[:whole] = _box_muller(out[:whole])
    if len(out) > whole:
        out[-_BLOCK:] = _box_muller(_uniform(generator, _BLOCK))
    return out[:count].reshape(shape)


def _uniform(generator: np.random.RandomState, count: int) -> NDArray[np.float32]:
    bits = generator.randint(0, 2**32, count, dtype=np.uint32) & np.uint32(2**24 - 1)
    return bits.astype(np.float32) * np.float32(2**-24)


def _box_muller(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    first, second = uniform.reshape(-1, 2, _BLOCK // 2).swapaxes(0, 1)
    radius, angle = np.sqrt(-2 * np.log1p(-first)), np.float32(2 * np.pi) * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)
