"""MuJoCo simulation of the arm in a task's scene: stepping, contacts, pictures."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot.panda import GRIPPER_OPEN

from .model import mjcf

Array = NDArray[np.float64]


class Physics:
    """The arm, its table and a task's own bodies.

    Attributes:
        model: `mujoco.MjModel`.
        data: `mujoco.MjData`; after `advance` positions of bodies belong to its joint angles.
        hand: index of the hand's body.
    """

    def __init__(self, scene: str) -> None:
        """Compile the model; `scene` is the MJCF of the task's bodies."""
        self.model = mujoco.MjModel.from_xml_string(mjcf(scene))
        self.data = mujoco.MjData(self.model)
        self.hand = int(self.model.body("hand").id)
        contype = np.asarray(self.model.geom_contype)
        self._is_arm, self._is_world = contype == 1, contype == 2
        self._hits = np.zeros(self.model.ngeom, dtype=np.bool_)
        self._renderer: Any = None

    @property
    def q(self) -> Array:
        """(7,) joint angles, rad."""
        return np.array(self.data.qpos[:7])

    @property
    def qd(self) -> Array:
        """(7,) joint velocities, rad/s."""
        return np.array(self.data.qvel[:7])

    @property
    def opening(self) -> float:
        """Distance between the finger pads, m."""
        return float(self.data.qpos[7] + self.data.qpos[8])

    @property
    def collided(self) -> bool:
        """Whether the arm has touched the table or an obstacle since the last `reset`."""
        return bool(self._hits.any())

    def touched(self, geom: str) -> bool:
        """Whether the arm has touched one part of the world since the last `reset`."""
        return bool(self._hits[self.model.geom(geom).id])

    def reset(self, q: Array) -> None:
        """Everything at rest, the arm at `q` (7,) rad with an open gripper."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:9] = np.append(q, [GRIPPER_OPEN / 2] * 2)
        self.data.ctrl[:] = np.append(q, GRIPPER_OPEN)
        self._hits[:] = False

    def settle(self) -> None:
        """Compute what follows from positions that were set by hand."""
        mujoco.mj_forward(self.model, self.data)

    def advance(self, rows: Array) -> bool:
        """Simulate one control step.

        Args:
            rows: (S, 8) servo targets of each physics step.

        Returns:
            whether the arm touched the table or an obstacle in it.
        """
        model, data, collision = self.model, self.data, False
        for row in rows:
            data.ctrl[:] = row
            mujoco.mj_step(model, data)
            if data.ncon:
                a, b = np.asarray(data.contact.geom).T
                world = np.concatenate([b[self._is_arm[a]], a[self._is_arm[b]]])
                world = world[self._is_world[world]]
                if len(world):
                    collision = True
                    self._hits[world] = True
        # mj_step leaves the bodies where they were before its last integration.
        mujoco.mj_kinematics(model, data)
        return collision

    def resize(self, geom: str, half: Array) -> None:
        """Give a box geom other half sizes (3,) m."""
        index = self.model.geom(geom).id
        self.model.geom_size[index] = half
        self.model.geom_rbound[index] = np.linalg.norm(half)
        self.model.geom_aabb[index] = np.append(np.zeros(3), half)

    def picture(self, height: int, width: int) -> NDArray[np.uint8]:
        """The scene from the fixed camera: (height, width, 3) uint8.

        Raises:
            OSError: where MuJoCo finds no OpenGL, with what to set.
        """
        if self._renderer is None:
            try:
                self._renderer = mujoco.Renderer(self.model, height, width)
            except Exception as error:
                raise OSError(
                    f"MuJoCo cannot draw here ({error}); without a screen set MUJOCO_GL=egl (or osmesa) in the "
                    "environment before Python starts"
                ) from error
        self._renderer.update_scene(self.data, camera="overview")
        return np.asarray(self._renderer.render())

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
