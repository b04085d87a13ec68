"""The chunk check as a step of LeRobot's processors, `dfplan_chunk_check`, for any policy there.

Needs the package `lerobot`, which finds this through `lerobot_policy_dfplan`: see docs/lerobot.md.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, untyped-decorator"
from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.motion.chunk_check import ChunkCheck, Verdict
from dfplan.deploy.robot.limits import Safety
from dfplan.deploy.robot.mapping import load_mapping
from dfplan.deploy.robot.tables import Robot
from dfplan.tools.serialize import from_dict

try:
    from lerobot.processor import ProcessorStep, ProcessorStepRegistry, TransitionKey
except ImportError as error:
    raise ImportError(
        "lerobot is not installed; run: pip install 'lerobot>=0.4.4,<0.5' (docs/lerobot.md)"
    ) from error

Array = NDArray[np.float64]


@ProcessorStepRegistry.register("dfplan_chunk_check")
@dataclass
class ChunkCheckStep(ProcessorStep):
    """Actions (B, A), one call after the other, or chunks (B, T, A): what does not pass is not executed.

    Instead of a refused chunk the robot gets its last action that passed, and holds. Put last into a post-processor it
    compares with what it let through before. Put first into the pre-processor as well, the same object also sees
    where the joints are.

    Attributes:
        robot: name of an arm that ships, a mapping file, or a mapping's table `robot`; its joints are the action's
            numbers, in order, in their units, or as their `norm_mode` has them.
        dt: between two actions, s; None: the mapping's.
        safety: table `safety` of a mapping, of which `jump` and `workspace` are used; empty: the mapping's.
        steps: actions of a chunk that are executed before the next chunk; 0: all.
        measured: key of the joints' positions, in the action's units; empty: they are not looked at.
        verdicts: of the last call, one for each robot.
        counts: reason -> how often something was refused.
    """

    robot: str | dict[str, Any]
    dt: float | None = None
    safety: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    measured: str = "observation.state"
    verdicts: tuple[Verdict, ...] = field(default=(), init=False)
    counts: Counter[str] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        """Build the check; ValueError for a robot that is not described in full."""
        dt, safety = self.dt, from_dict(Safety, self.safety, "safety")
        if isinstance(self.robot, str):
            mapping = load_mapping(self.robot)
            names, robot = tuple(j.name for j in mapping.robot.joints), mapping.robot
            if mapping.policy.action != "joints" or mapping.policy.action_joints not in ((), names):
                raise ValueError(f"{self.robot}: got other actions than targets of {list(names)}, in order")
            dt, safety = dt or mapping.policy.dt, safety if self.safety else mapping.safety
        else:
            robot = from_dict(Robot, self.robot, "robot")
        if dt is None:
            raise ValueError("got no dt; give s between two actions, such as dt=1/30")
        self._check = ChunkCheck.of(robot, dt, safety)
        self.reset()

    def reset(self) -> None:
        """Begin an episode: nothing was commanded yet."""
        self._said: Array | None = None
        self._here: Array | None = None
        self.verdicts = ()

    def __call__(self, transition: Any) -> Any:
        """Look at what is measured; judge what is wanted."""
        seen = (transition.get(TransitionKey.OBSERVATION) or {}).get(self.measured)
        if seen is not None:
            self._here = np.atleast_2d(np.asarray(seen.detach().cpu(), np.float64))
        action = transition.get(TransitionKey.ACTION)
        if action is None:
            return transition
        return {**transition, TransitionKey.ACTION: action.new_tensor(self._passed(action))}

    def _passed(self, action: Any) -> Array:
        rows = np.asarray(action.detach().cpu(), np.float64)
        chunks = rows[:, None] if rows.ndim == 2 else rows
        if chunks.ndim != 3:
            raise ValueError(f"got actions of shape {rows.shape}, expected (B, A), or chunks (B, T, A)")
        for before in (self._said, self._here):
            if before is not None and len(before) != len(chunks):
                raise ValueError(f"got {len(chunks)} robots after {len(before)}; call reset() first")
        said = np.zeros((len(chunks), 0, chunks.shape[2])) if self._said is None else self._said
        here = [None] * len(chunks) if self._here is None else [*self._here]
        self.verdicts = tuple(
            self._check.judge(c, s if len(s) else None, h) for c, s, h in zip(chunks, said, here, strict=True)
        )
        out = chunks.copy()
        for n, verdict in enumerate(self.verdicts):
            if not verdict:
                self.counts[verdict.reason] += 1
                logging.getLogger(__name__).warning("robot %d holds: %s", n, verdict)
                held = said[n, -1] if len(said[n]) else here[n]
                if held is None:
                    raise ValueError(
                        f"robot {n}: {verdict}, of the first chunk, and nothing is known to hold"
                    )
                out[n] = held
        self._said = np.concatenate([said, out[:, : self.steps or None]], 1)[:, -3:]
        return out.reshape(rows.shape)

    def get_config(self) -> dict[str, Any]:
        """What a pipeline's file keeps."""
        return {k: getattr(self, k) for k in ("robot", "dt", "safety", "steps", "measured")}

    def transform_features(self, features: Any) -> Any:
        """Nothing changes shape."""
        return features
