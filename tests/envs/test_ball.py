from __future__ import annotations

import math
import os
from pathlib import Path

import mujoco
import numpy as np
import pytest

from dfplan.envs import MAZES, get_maze
from dfplan.envs.ball import Ball, build_model

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("DFPLAN_SHARED_DATA", ROOT / "../shared/data")) / "d4rl-maze2d-20k"
RECORDED = ("umaze", "medium", "large")


@pytest.mark.shared
@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_row_steps_to_the_next(name: str) -> None:
    path = SHARED / f"maze2d-{name}-sparse-v1-20k.hdf5"
    if not path.exists():
        pytest.skip(f"no recorded rows at {path}; set DFPLAN_SHARED_DATA")
    import h5py

    with h5py.File(path) as file:
        state = np.hstack([file["infos/qpos"][:], file["infos/qvel"][:]]).astype(np.float64)
        actions, timeouts = file["actions"][:].astype(np.float64), file["timeouts"][:]
    ball = Ball(MAZES[name])
    rows = zip(state[:-1].tolist(), actions[:-1].tolist(), strict=True)
    error = np.abs(np.array([ball.step(*s, *a) for s, a in rows]) - state[1:])
    assert (~timeouts).sum() > 19_000
    # Also across timeouts: the ball is not reset there, only the collector's goal changes.
    assert error[:, :2].max() <= 2e-6
    assert error[:, 2:].max() <= 2e-5


def reference_model(name: str) -> mujoco.MjModel:
    model = build_model(MAZES[name])
    model.opt.disableflags = 0
    return model


@pytest.mark.parametrize("name", ["umaze", "large-eval"])
def test_equals_mujoco_at_every_step(name: str) -> None:
    """Closed form and MuJoCo agree in free space and at walls."""
    maze, model = MAZES[name], reference_model(name)
    data, ball, rng = mujoco.MjData(model), Ball(maze), np.random.default_rng(3)
    state = (float(maze.goal[0]), float(maze.goal[1]), 0.0, 0.0)
    touching, worst = 0, 0.0
    for _ in range(300):
        action = np.clip(rng.normal(size=2) * 1.5, -1, 1).tolist()
        for _ in range(10):
            data.qpos[:], data.qvel[:] = state[:2], np.clip(state[2:], -5, 5)
            data.ctrl[:] = action
            mujoco.mj_step(model, data)
            touching += data.ncon > 0
            state = ball.step(*state, *action)
            worst = max(worst, float(np.abs(np.concatenate([data.qpos, data.qvel]) - state).max()))
    assert touching > 300
    assert worst < 1e-5


def test_free_motion_is_exact() -> None:
    """The closed form is MuJoCo's to the last digits where nothing is near."""
    model = reference_model("large")
    data, ball = mujoco.MjData(model), Ball(MAZES["large"])
    state, rng = (1.0, 1.0, 0.3, -0.2), np.random.default_rng(0)
    for _ in range(15):
        ax, ay = rng.uniform(-0.5, 0.5, 2).tolist()
        data.qpos[:], data.qvel[:], data.ctrl[:] = state[:2], state[2:], (ax, ay)
        mujoco.mj_step(model, data)
        state = ball.step(*state, ax, ay)
        assert data.ncon == 0
        np.testing.assert_allclose(state, np.concatenate([data.qpos, data.qvel]), rtol=0, atol=1e-14)


def test_contact_corrections() -> None:
    model = build_model(MAZES["umaze"])
    ball = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "particle")
    assert model.body_mass[ball] == pytest.approx(4.18879, abs=1e-5)
    assert model.body_invweight0[ball, 0] == pytest.approx(2 / (3 * 4.18879), abs=1e-6)
    geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, "particle_geom")
    assert model.geom_margin[geom] == 0.002
    assert model.geom_margin.sum() == 0.002
    assert model.ngeom - 1 == MAZES["umaze"].text.count("#")


def test_contact_starts_at_the_margin() -> None:
    """In cell (1, 1) the upper wall's face is at qpos 0.3 + 0.1 (radius), plus 0.002 of margin."""
    ball = Ball(MAZES["umaze"])
    touching = []
    for x in (0.403, 0.4015):
        ball._mujoco_step(x, 1.0, 0.0, 0.0, 0.0, 0.0)
        touching.append(ball.data.ncon)
    assert touching == [0, 1]


def test_no_contact_is_missed() -> None:
    """Wherever MuJoCo sees a contact, the ball takes MuJoCo's step."""
    for maze in (MAZES["medium"], get_maze("#####\n#OO##\n##OO#\n#####")):
        ball, rng = Ball(maze), np.random.default_rng(1)
        for row, column in maze.free_cells:
            for dx, dy in rng.uniform(-0.41, 0.41, (60, 2)).tolist():
                x, y = row - 0.2 + dx, column - 0.2 + dy
                ball.data.qpos[:], ball.data.qvel[:] = (x, y), 0
                mujoco.mj_forward(ball.model, ball.data)
                index = int((x + 0.7) * 50) * ball._columns + int((y + 0.7) * 50)
                assert ball.data.ncon == 0 or ball._near[index]


def test_speed_is_clipped_before_the_step() -> None:
    ball = Ball(MAZES["large"])
    gain = 0.01 / (4 / 3 * math.pi + 0.01)
    fast = 5.0 + gain * (100 - 5.0)
    assert ball.step(1.0, 1.5, 40.0, -40.0, 1.0, -1.0)[2:] == pytest.approx((fast, -fast))
    assert fast == pytest.approx(5.2262, abs=1e-4)


def test_walls_hold() -> None:
    ball, state = Ball(MAZES["umaze"]), (1.0, 1.0, 0.0, 0.0)
    for _ in range(500):
        state = ball.step(*state, -1.0, -1.0)
    assert 0.35 < state[0] < 0.403 and 0.35 < state[1] < 0.403


def test_step_has_no_memory() -> None:
    one, other = Ball(MAZES["umaze"]), Ball(MAZES["umaze"])
    for _ in range(50):
        one.step(0.4, 0.4, -3.0, 1.0, 1.0, -1.0)
    assert one.step(0.4, 1.7, -2.0, 1.0, -1.0, 0.4) == other.step(0.4, 1.7, -2.0, 1.0, -1.0, 0.4)
