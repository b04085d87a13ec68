"""Numbers measured on the training data once, stored in the checkpoint, used by planning and tracking."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfplan.denoiser import Denoiser, self_error

if TYPE_CHECKING:
    from dfplan.data.episodes import Episodes
    from dfplan.nets.normalize import Normalizer
    from dfplan.train.config import TrainConfig
    from dfplan.train.tokens import TokenWindows

QUANTILE = 0.99


@torch.no_grad()
def calibrate(
    denoiser: Denoiser, normalizer: Normalizer, windows: TokenWindows, config: TrainConfig, device: str
) -> dict[str, Any]:
    """Measure on 2,048 training windows.

    Returns:
        `self_error`: 99 % quantile of `self_error` with start and end known; `step`: 99.9 % quantile of the distance
        between the goal token's values at consecutive steps (physical units); `dynamics`: see `fit_point_mass`,
        None where observations are not positions and velocities. For a policy (no goal token) `actions` and
        `observations`: their ranges in the demonstrations.
    """
    if not config.goal_token:
        arrays = windows.episodes.arrays  # perhaps larger than memory: not copied
        return {
            key: {"low": arrays[key].min(0).tolist(), "high": arrays[key].max(0).tolist()}
            for key in ("actions", "observations")
        }
    rng, generator = np.random.default_rng(config.seed), torch.Generator(device).manual_seed(config.seed)
    errors, moves = [], []
    group = [t.name for t in config.spec.tokens].index(config.goal_token)
    for _ in range(8):
        x, _, _ = windows.draw(rng, 256, config.longest_of)
        x = x.to(device)
        known = torch.zeros(x.shape[:2], dtype=torch.bool, device=device)
        known[:, : config.spec.group_size] = known[:, -config.spec.group_size :] = True
        noise = partial(torch.randn, x.shape, generator=generator, device=device)
        errors.append(self_error(denoiser, config.model.noise, x, known, noise))
        valid = config.spec.token_mask(config.goal_token)
        places = normalizer.unnormalize(x)[:, valid.repeat(config.horizon).to(device)]
        width, size = int(config.spec.valid[group].sum()), len(config.spec.tokens[group].channels)
        moves.append(places[..., width - size : width].diff(dim=1).norm(dim=-1).flatten())
    return {
        "self_error": float(torch.cat(errors).quantile(QUANTILE)),
        "step": float(torch.cat(moves)[: 1 << 22].quantile(0.999)),
        "dynamics": fit_point_mass(windows.episodes),
    }


def fit_point_mass(episodes: Episodes, rows: int = 200_000) -> dict[str, float] | None:
    """Least squares of v' = keep * v + gain * action on one-step transitions; None unless O = 2 A, or O = A.

    Observations are positions and velocities, or positions alone, whose differences then are the velocities; of those
    it is None as well where actions explain less than nine tenths of what is seen to move.

    Contacts are outliers: rows further than 3 median deviations off are dropped, three times over.

    Returns:
        `keep`: fraction of velocity kept per env step; `gain`: velocity (unit/s) added per env step by action 1;
        `speed`: 99.9 % quantile of |v| per axis (unit/s).
    """
    observations, actions = episodes.arrays["observations"], episodes.arrays.get("actions")
    if (
        actions is None
        or observations.ndim != 2
        or observations.shape[1]
        not in (
            actions.shape[1],
            2 * actions.shape[1],
        )
    ):
        return None
    size, last = actions.shape[1], min(rows, episodes.steps)
    inner = np.ones(last - 1, bool)
    inner[episodes.ends[episodes.ends < last] - 1] = False
    v, places = np.asarray(observations[:last, size:], np.float64), observations.shape[1] == size
    if places:
        inner[episodes.starts[episodes.starts < last - 1]] = False
        p = np.asarray(observations[:last], np.float64)
        v = np.diff(p, axis=0, prepend=p[:1]) / episodes.dt
        v[episodes.starts[episodes.starts < last]] = 0
    if not inner.any():
        return None
    before, after = v[:-1][inner].ravel(), v[1:][inner].ravel()
    push = np.asarray(actions[: last - 1], np.float64)[inner].ravel()
    keep = np.ones(len(before), bool)
    coefficients: NDArray[np.float64] = np.zeros(2)
    for _ in range(4):
        design = np.stack([before, push], 1)
        coefficients = np.asarray(np.linalg.lstsq(design[keep], after[keep], rcond=None)[0], np.float64)
        residual = np.abs(after - design @ coefficients)
        keep = residual <= 3 * np.median(residual[keep]) + 1e-9
    if places and not np.square(residual[keep]).mean() < 0.1 * np.square(after[keep]).mean():
        return None
    return {
        "keep": float(coefficients[0]),
        "gain": float(coefficients[1]),
        "speed": float(np.quantile(np.abs(v), 0.999)),
    }
