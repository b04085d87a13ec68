"""Physics of Maze2D's ball: MuJoCo where it can touch a wall, elsewhere MuJoCo's update in closed form.

The model is D4RL's `point_maze` MJCF (sphere of 0.1 m and 4.18879 kg on two slides, damping 1 N s/m, motors
of 100 N, dt 0.01 s). Two properties of contacts changed in newer MuJoCo versions and are set back to what
D4RL's data were recorded with: the ball's `body_invweight0` (2/(3m); 1/m since MuJoCo 3.0) and the contact
margin (0.002 m in all; the two geoms' margins are summed since 3.5). The ground plane is left out: it cannot
push along x or y.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from .mazes import OFFSET, Maze

DT = 0.01
MAX_SPEED = 5.0
RADIUS = 0.1
_FORCE, _DAMPING, _MARGIN = 100.0, 1.0, 0.002
_MASS = 1000.0 * 4.0 / 3.0 * math.pi * RADIUS**3
# Fine grid that says where a contact is possible: cells per metre, and slack in m against rounding.
_FINE, _SLACK = 50, 1e-6
# From qpos to metres from the maze's edge: half a cell beyond the offset.
_EDGE = OFFSET + 0.5

State = tuple[float, float, float, float]


def mjcf(maze: Maze) -> str:
    """MJCF text of a maze: D4RL's `point_maze`, the margin on the ball alone, without the ground plane."""
    walls = "".join(
        f'<geom name="wall_{r}_{c}" type="box" pos="{r + 1.0} {c + 1.0} 0" size="0.5 0.5 0.2"/>\n'
        for r, row in enumerate(maze.rows)
        for c, tile in enumerate(row)
        if tile == "#"
    )
    return f"""<mujoco model="point_maze">
<compiler inertiafromgeom="true" angle="radian"/>
<option timestep="{DT}" gravity="0 0 0" iterations="20" integrator="Euler">
  <flag warmstart="disable"/>
</option>
<default>
  <joint damping="{_DAMPING}" limited="false"/>
  <geom friction=".5 .1 .1" density="1000" margin="0" condim="1" contype="2" conaffinity="1"/>
</default>
<worldbody>
{walls}<body name="particle" pos="{1.0 + OFFSET} {1.0 + OFFSET} 0">
  <geom name="particle_geom" type="sphere" size="{RADIUS}" margin="{_MARGIN}" contype="1" rgba="0 0 1 1"/>
  <joint name="ball_x" type="slide" axis="1 0 0"/>
  <joint name="ball_y" type="slide" axis="0 1 0"/>
</body>
</worldbody>
<actuator>
  <motor joint="ball_x" ctrlrange="-1 1" ctrllimited="true" gear="{_FORCE:g}"/>
  <motor joint="ball_y" ctrlrange="-1 1" ctrllimited="true" gear="{_FORCE:g}"/>
</actuator>
</mujoco>"""


def build_model(maze: Maze) -> mujoco.MjModel:
    """Compiled model with both contact corrections; runs the same on every MuJoCo >= 3.3."""
    model = mujoco.MjModel.from_xml_string(mjcf(maze))
    ball = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "particle")
    model.body_invweight0[ball, 0] = 2.0 / (3.0 * model.body_mass[ball])
    return model


def _touch_map(maze: Maze) -> tuple[bytes, int]:
    """Flat map of fine squares, 1 where a ball centred in one may touch a wall; and squares per row."""
    reach = RADIUS + _MARGIN + _SLACK
    rows, columns = (n * _FINE for n in maze.shape)
    near = np.zeros((rows, columns), dtype=np.uint8)
    pad = math.ceil(reach * _FINE) + 1
    size = np.arange(-pad, _FINE + pad) / _FINE
    gap = np.maximum(0.0, np.maximum(-(size + 1.0 / _FINE), size - 1.0))
    block = (np.hypot(gap[:, None], gap[None, :]) <= reach).astype(np.uint8)
    for r, row in enumerate(maze.rows):
        for c, tile in enumerate(row):
            if tile == "#":
                r0, c0 = r * _FINE - pad, c * _FINE - pad
                r1, c1 = max(r0, 0), max(c0, 0)
                view = near[r1 : r0 + len(block), c1 : c0 + len(block)]
                view |= block[r1 - r0 :, c1 - c0 :][: view.shape[0], : view.shape[1]]
    return near.tobytes(), columns


class Ball:
    """Steps the ball; a step is a pure function of state and action (contact solver without warm start)."""

    def __init__(self, maze: Maze) -> None:
        """Compile the model of a maze."""
        self.maze = maze
        self.model = build_model(maze)
        self.data = mujoco.MjData(self.model)
        self._near, self._columns = _touch_map(maze)
        self._qpos, self._qvel, self._ctrl = self.data.qpos, self.data.qvel, self.data.ctrl

    def step(self, x: float, y: float, vx: float, vy: float, ax: float, ay: float) -> State:
        """One env step of 0.01 s: clip the speed, then D4RL's MuJoCo step.

        Args:
            x: position along the rows, m (`qpos[0]`; cell (r, c) spans r - 0.7 to r + 0.3).
            y: position along the columns, m.
            vx: speed along x, m/s; clipped to 5 before the step.
            vy: speed along y, m/s.
            ax: motor command along x in [-1, 1], 1 is 100 N.
            ay: motor command along y.

        Returns:
            (x, y, vx, vy) after the step.
        """
        if not -MAX_SPEED <= vx <= MAX_SPEED:
            vx = math.copysign(MAX_SPEED, vx)
        if not -MAX_SPEED <= vy <= MAX_SPEED:
            vy = math.copysign(MAX_SPEED, vy)
        if self._near[int((x + _EDGE) * _FINE) * self._columns + int((y + _EDGE) * _FINE)]:
            return self._mujoco_step(x, y, vx, vy, ax, ay)
        # MuJoCo's Euler step, damping implicit: (m + dt d) dv = dt (F - d v), then x += dt v.
        vx += _GAIN * (_FORCE * ax - _DAMPING * vx)
        vy += _GAIN * (_FORCE * ay - _DAMPING * vy)
        return x + DT * vx, y + DT * vy, vx, vy

    def _mujoco_step(self, x: float, y: float, vx: float, vy: float, ax: float, ay: float) -> State:
        qpos, qvel, ctrl = self._qpos, self._qvel, self._ctrl
        qpos[0], qpos[1], qvel[0], qvel[1], ctrl[0], ctrl[1] = x, y, vx, vy, ax, ay
        mujoco.mj_step(self.model, self.data)
        return float(qpos[0]), float(qpos[1]), float(qvel[0]), float(qvel[1])


_GAIN = DT / (_MASS + DT * _DAMPING)
