"""Small problems with known answers, shared by the tests of the core."""

import numpy as np
import torch
from torch import nn

from dfplan.data.episodes import Episodes
from dfplan.nets.normalize import Normalizer
from dfplan.noise import NoiseSchedule
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.train import Levels
from dfplan.train.checkpoint import Checkpoint
from dfplan.train.config import ModelConfig, TrainConfig

XY = (Channel("x", "m", index=0), Channel("y", "m", index=1))
V = (Channel("vx", "m/s", index=2), Channel("vy", "m/s", index=3))
A = (Channel("ax", source="actions", index=0), Channel("ay", source="actions", index=1))
POSITION = Token("position", ("x", "y"))
VELOCITY = Token("velocity", ("vx", "vy"))
ACTION = Token("action", ("ax", "ay"), lag=-1)
SIZES = {"observation_size": 4, "action_size": 2}


def position_spec(**changes):
    return TrajectorySpec(XY, (POSITION,), 0.1, **(SIZES | changes))


def state_spec(**changes):
    return TrajectorySpec(XY + V, (POSITION, VELOCITY), 0.1, **(SIZES | changes))


def action_spec(**changes):
    return TrajectorySpec(XY + A, (POSITION, ACTION), 0.1, **(SIZES | changes))


def walks(count=6, length=30, seed=0, keep=0.9, gain=0.5):
    """Point masses pushed at random: v' = keep v + gain a, x' = x + 0.1 v'."""
    rng = np.random.default_rng(seed)
    rows, pushes = [], []
    for _ in range(count):
        x, v = rng.normal(size=2), np.zeros(2)
        for _ in range(length):
            a = rng.uniform(-1, 1, 2)
            rows.append([*x, *v])
            pushes.append(a)
            v = keep * v + gain * a
            x = x + 0.1 * v
    arrays = {"observations": np.array(rows, np.float32), "actions": np.array(pushes, np.float32)}
    return Episodes(arrays, np.arange(1, count + 1) * length, 0.1, "walks")


def config(spec=None, **changes):
    base = {
        "horizon": 6,
        "model": ModelConfig(width=16, layers=1, heads=2),
        "levels": Levels(goal_known=0.5),
        "steps": 12,
        "batch": 8,
        "warmup": 2,
        "precision": "fp32",
        "save_every": 4,
        "log_every": 4,
    }
    return TrainConfig(spec or position_spec(), **(base | changes))


def checkpoint(spec=None, calibration=None, normalizer=None, **changes):
    """An untrained model, ready to plan."""
    c = config(spec, **changes)
    torch.manual_seed(1)
    denoiser = c.model.build(c.spec, c.horizon).eval().requires_grad_(False)
    return Checkpoint(c, denoiser, normalizer or Normalizer.fit(c.spec, walks()), calibration or {})


class Gaussian:
    """Exact denoiser of independent N(mean, std^2) tokens."""

    def __init__(self, mean=0.7, std=0.5, schedule=None):
        self.mean, self.std, self.schedule = mean, std, schedule or NoiseSchedule()

    def spread(self, level):
        """Standard deviation of a noisy token at `level`."""
        return (
            self.schedule.alpha(level).square() * self.std**2 + self.schedule.sigma(level).square()
        ).sqrt()

    def __call__(self, x, level):
        alpha, spread = self.schedule.alpha(level)[..., None], self.spread(level)[..., None]
        return self.mean + self.std**2 * alpha / spread.square() * (x - alpha * self.mean)

    def flow(self, x, high=1.0, low=0.0):
        """Where the probability flow takes x from level `high` to `low`."""
        high, low = torch.tensor([[high], [low]], dtype=x.dtype)
        standard = (x - self.schedule.alpha(high) * self.mean) / self.spread(high)
        return self.schedule.alpha(low) * self.mean + self.spread(low) * standard


class Echo(nn.Module):
    """A backbone that returns its input."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, level):
        return x


class Perceptron(nn.Module):
    """A smooth network over each token and its level; tokens do not see each other unless `mix`."""

    def __init__(self, width, mix=False, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.mix = mix
        self.one, self.two = nn.Linear(width + 1, 12), nn.Linear(12, width)

    def forward(self, x, level):
        out = self.two(torch.tanh(self.one(torch.cat([x, level[..., None]], -1))))
        return out + out.mean(1, keepdim=True) if self.mix else out
