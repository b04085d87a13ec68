"""What guidance needs to keep the hand off the obstacle of ArmReach."""

from __future__ import annotations

import torch
from torch import Tensor

from dfplan.deploy.robot.panda import TCP
from dfplan.guidance import Cost

from .model import CAPSULES, FINGERS


def _hand() -> Tensor:
    """Points along the hand and the fingers: y and z from the TCP in the tool's frame (m), radius (m); (P, 3)."""
    rows = []
    for capsule in (CAPSULES[-1], FINGERS):
        along = torch.linspace(capsule.start[1], capsule.end[1], 5)
        rows += [[float(y), capsule.start[2] - TCP, capsule.radius] for y in along]
    return torch.tensor(rows)


def keep_clear(margin: float = 0.03) -> Cost:
    """Squared depth (m^2) of the hand in the obstacle grown by `margin` (m), summed over its points and the steps.

    For policies that act by the hand's pose, with target and obstacle relative to the hand as it is now. How the hand is
    turned is taken as it is at the start of the window.
    """
    hand = _hand()

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        device = channels["ee_x target"].device
        first = {name: values[:, 0] for name, values in channels.items()}
        x, y = (torch.stack([first[f"ee_{a}{i}"] for i in "xyz"], -1) for a in "xy")
        y_offset, z_offset, radius = hand.to(device).T
        z = torch.linalg.cross(x, y)
        points = y_offset[:, None] * y[:, None] + z_offset[:, None] * z[:, None]  # (B, P, 3)
        tool = torch.stack([channels[f"ee_{i} target"] for i in "xyz"], -1)
        low, high = (
            torch.stack([first[f"obstacle_{i}_{end}"] for i in "xyz"], -1)[:, None, None]
            for end in ("low", "high")
        )
        placed = tool[:, :, None] + points[:, None]  # (B, H, P, 3)
        gap = torch.maximum(low - placed, placed - high)
        outside = (gap.clamp_min(0).square().sum(-1) + 1e-10).sqrt()
        depth = (radius + margin - outside - gap.amax(-1).clamp_max(0)).clamp_min(0)
        return (depth.square().sum(-1) * mask).sum(-1)

    return cost
