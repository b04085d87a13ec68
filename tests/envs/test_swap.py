"""Swap: three moves in order, what they leave behind cannot be told from a start, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import dfplan.envs as envs
from dfplan.deploy.robot import panda, rotations
from dfplan.envs.arm import collect, expert
from dfplan.envs.arm.mirror import reflect
from dfplan.envs.arm.robot.connection import ArmSettings
from dfplan.envs.arm.robot.node import ArmNode
from dfplan.envs.memory.slots import NEAR, SLOTS
from dfplan.envs.memory.swap import SwapEnv

MIRRORED_SLOT = (1, 0, 2)


def fresh(**options: Any) -> tuple[SwapEnv, np.ndarray]:
    env = SwapEnv(terminate_on_success=False)
    return env, env.reset(seed=0, options=options)[0]


def put(env: SwapEnv, cube: int, slot: int) -> dict[str, Any]:
    """What the environment tells once a cube has been laid on a slot by hand and the arm has kept still."""
    at = 9 + 7 * cube
    env.physics.data.qpos[at : at + 7] = [*SLOTS[slot], 0.02, 1.0, 0.0, 0.0, 0.0]
    still = np.concatenate([env.tcp()[0], rotations.rot6d(env.tcp()[1]), [0.08]])
    return env.step(still if env.action_kind == "ee" else np.append(env.physics.q, 0.08))[4]


def drive(env: SwapEnv, seed: int, until: Any, most: int = 700) -> dict[str, Any]:
    """Let the expert act until `until(env, info)`."""
    driver = expert("swap", env, seed)
    for _ in range(most):
        *_, info = env.step(driver.act())
        if until(env, info):
            return info
    raise AssertionError(f"not within {most} steps: {info}")


@pytest.mark.parametrize("action", ["joint", "ee"])
def test_gymnasium_contract(action: str) -> None:
    env = envs.make("swap", action=action)
    assert env.spec is not None and env.spec.id == "dfplan/Swap-v1" and env.spec.max_episode_steps == 700
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*A Box observation space m.*imum value is.*infinity.*")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        check_env(env.unwrapped, skip_render_check=True)
    inner = env.unwrapped
    assert isinstance(inner, SwapEnv) and list(inner.sensors) == ["joints", "ee", "objects"]
    assert inner.sensors["objects"] == slice(24, 42) == slice(24, len(inner.channel_names))
    assert len(set(inner.channel_names)) == 42 == len(inner.units)
    assert inner.channel_names[24] == "red_x" and inner.channel_names[33] == "blue_x"


def test_same_seed_same_episode() -> None:
    runs = []
    for _ in range(2):
        env = SwapEnv()
        first = env.reset(seed=7)[0]
        driver = env.make_expert(7)
        runs.append(np.array([first, *(env.step(driver.act())[0] for _ in range(60))]))
    np.testing.assert_array_equal(*runs)
    arrangements = {SwapEnv().reset(seed=seed)[1]["goal"].tobytes() for seed in range(40)}
    assert len(arrangements) == 6


@pytest.mark.parametrize(("disturb", "seeds"), [(None, range(6)), ("move", range(6, 10))])
def test_expert_succeeds(disturb: str | None, seeds: range) -> None:
    env = envs.make("swap", disturb=disturb)
    for seed in seeds:
        _, first = env.reset(seed=seed)
        goal = first["goal"].reshape(2, 3)
        driver, infos, ended = expert("swap", env, seed), [first], False
        while not ended:
            *_, terminated, truncated, info = env.step(driver.act())
            infos.append(info)
            ended = terminated or truncated
        assert info["success"] and info["moves"] == 3 and info["mistakes"] == 0 and not info["collided"]
        moves = [info["moves"] for info in infos]
        assert moves == sorted(moves) and set(moves) == {0, 1, 2, 3}
        assert (
            max(i["progress"] for i in infos if i["moves"] == 0) < 1 / 3 < infos[moves.index(2)]["progress"]
        )
        assert info["progress"] == 1.0 and info["disturbed"] == (disturb is not None)
        cubes = np.array([env.unwrapped.cube(index)[0] for index in range(2)])
        assert np.linalg.norm((cubes - goal)[:, :2], axis=1).max() < NEAR


def test_the_next_move_cannot_be_seen() -> None:
    """Two episodes that began otherwise show the same observation, and another cube is to be moved next."""
    env, _ = fresh(arrangement=(0, 1))
    still = lambda env, info: info["moves"] == 1 and np.abs(env.physics.qd).max() < 0.01  # noqa: E731
    drive(env, 0, still)
    poses = []
    for index in range(2):
        place, turned = env.cube(index)
        poses += [place[0], place[1], np.arctan2(turned[1, 0], turned[0, 0])]
    other, seen = fresh(joints=env.physics.q, objects=poses)
    np.testing.assert_allclose(seen, env.truth(), atol=0.01)
    assert env.moves == 1 and other.moves == 0
    assert env.job() == (1, 0) and other.job() == (0, 0)  # blue there, red here, to the same free slot


def test_three_decisions_with_one_arrangement() -> None:
    """Red on slot 2 and blue on slot 1: at the start, after the first move, after the second."""
    start, _ = fresh(arrangement=(2, 1))
    once, _ = fresh(arrangement=(0, 1))
    put(once, 0, 2)
    twice, _ = fresh(arrangement=(1, 0))
    put(twice, 0, 2)
    put(twice, 1, 1)
    assert [env.moves for env in (start, once, twice)] == [0, 1, 2]
    assert [env.job() for env in (start, once, twice)] == [(0, 0), (1, 0), (0, 0)]
    assert np.abs(once.truth() - twice.truth())[24:].max() < 0.25  # the jitter and turn of the start
    for env in (start, once, twice):
        for index, slot in enumerate((2, 1)):
            assert np.linalg.norm(env.cube(index)[0][:2] - SLOTS[slot]) < 0.02


def test_moves_and_mistakes_are_counted() -> None:
    env, _ = fresh(arrangement=(0, 1))
    info = put(env, 1, 2)
    assert (info["moves"], info["mistakes"]) == (0, 1) and env.job() == (1, 1)
    info = put(env, 1, 1)
    assert (info["moves"], info["mistakes"]) == (0, 1) and env.job() == (0, 2)
    assert put(env, 0, 2)["moves"] == 1 and env.job() == (1, 0)
    assert put(env, 1, 0)["moves"] == 2 and not env.succeeded()
    info = put(env, 0, 1)
    assert (info["moves"], info["mistakes"]) == (3, 1) and env.job() is None and env.succeeded()
    assert put(env, 0, 2)["mistakes"] == 2 and not env.succeeded() and env.job() == (0, 1)


def test_what_is_displaced_after_the_last_move_is_put_right() -> None:
    env, _ = fresh(arrangement=(0, 1))
    for cube, slot in ((0, 2), (1, 0), (0, 1)):
        put(env, cube, slot)
    env.physics.data.qpos[9:11] = SLOTS[1] + [0.032, 0.0]  # near the spot, and on no slot
    env.step(np.append(env.physics.q, 0.08))
    assert not env.succeeded() and env.moves == 3
    info = drive(env, 3, lambda env, info: info["success"], 250)
    assert info["mistakes"] == 0


@pytest.mark.parametrize("kind", ["freeze", "blank", "offset"])
def test_a_failing_sensor_shows_both_cubes_wrong(kind: str) -> None:
    rows, clean, doubtful = [], [], []
    env = SwapEnv(disturb={"kind": kind, "start": 0.5})
    env.reset(seed=4)
    driver = env.make_expert(4)
    for _ in range(60):
        observation, *_, info = env.step(driver.act())
        rows.append(observation)
        clean.append(env.truth())
        doubtful.append(info["doubtful"] == ("objects",))
    wrong = np.array(rows) - clean
    assert np.flatnonzero(doubtful).tolist() == list(range(9, 49))  # two seconds
    assert (wrong[:, :24] == 0).all() and (wrong[~np.array(doubtful)] == 0).all()
    span = np.array(rows)[9:49, 24:]
    if kind == "offset":
        shift = wrong[9:49, 24:].reshape(40, 2, 9)
        np.testing.assert_allclose(shift[:, 0], shift[:, 1], atol=1e-6)
        assert 0.05 <= np.linalg.norm(shift[0, 0, :3]) <= 0.1 and (shift[:, :, 3:] == 0).all()
    else:
        np.testing.assert_array_equal(
            span, np.zeros_like(span) if kind == "blank" else span[:1].repeat(40, 0)
        )


def test_move_moves_one_cube_about_its_slot() -> None:
    for seed in range(8):
        env = SwapEnv(disturb={"kind": "move", "start": 0.3})
        first, _ = env.reset(seed=seed)
        before = [env.cube(index)[0] for index in range(2)]
        for _ in range(12):
            env.step(np.append(first[:7], 0.08))
        after = [env.cube(index)[0] for index in range(2)]
        gone = [float(np.linalg.norm(b - a)) for a, b in zip(before, after, strict=True)]
        assert min(gone) < 1e-3 and 0.049 < max(gone) < 0.101
        near = [[np.argmin(np.linalg.norm(SLOTS - p[:2], axis=1)) for p in each] for each in (before, after)]
        assert near[0] == near[1]


def test_a_held_cube_is_never_moved() -> None:
    env, _ = fresh(arrangement=(0, 1))
    drive(env, 0, lambda env, _: env.cube(0)[0][2] > 0.05)
    rng, held = np.random.default_rng(0), env.cube(0)[0]
    for _ in range(10):
        env.displace(rng, 0.07)
        np.testing.assert_array_equal(env.physics.data.qpos[9:12], held)
    assert np.linalg.norm(env.physics.data.qpos[16:18] - SLOTS[1]) > 0.03


def test_options_are_taken_and_checked() -> None:
    env, _ = fresh(arrangement=(2, 0))
    np.testing.assert_allclose(env.goal.reshape(2, 3)[:, :2], SLOTS[[0, 2]])
    objects = [0.43, 0.11, 0.1, 0.62, 0.01, -0.2]
    env, seen = fresh(objects=objects)
    np.testing.assert_allclose(seen[[24, 25, 33, 34]], [0.43, 0.11, 0.62, 0.01], atol=1e-6)
    assert env.job() == (0, 0)
    for options, text in (
        ({"arrangement": (1, 1)}, r"\(1, 1\), expected two different slots of 0, 1 and 2"),
        ({"arrangement": (0, 3)}, "two different slots"),
        ({"arrangement": (0.5, 1)}, "two different slots"),
        ({"arrangement": (0, 1, 2)}, "expected 2 finite numbers"),
        ({"objects": [0.43, 0.11, 0.0, 0.42, 0.13, 0.0]}, "two different slots"),
        ({"objects": [0.4, np.nan, 0, 0, 0, 0]}, "expected 6 finite numbers"),
        ({"objects": objects, "arrangement": (0, 1)}, "give one of the two"),
        ({"object": [0, 0, 0]}, "did you mean 'objects'"),
    ):
        with pytest.raises(ValueError, match=text):
            env.reset(seed=0, options=options)
    with pytest.raises(ValueError, match="did you mean 'objects'"):
        SwapEnv(disturb={"kind": "freeze", "sensor": "object"})


def test_an_action_mirrored_acts_mirrored() -> None:
    env, twin = SwapEnv(), SwapEnv()
    seen, _ = env.reset(seed=5)
    names = list(env.channel_names)
    joints = [f"q{i}" for i in range(1, 8)]
    image = reflect(seen, names)
    yaw = [np.arctan2(image[at + 1], image[at]) for at in (27, 36)]
    objects = [image[24], image[25], yaw[0], image[33], image[34], yaw[1]]
    other, _ = twin.reset(seed=0, options={"joints": image[:7], "objects": objects})
    np.testing.assert_allclose(other, image, atol=2e-4)
    assert twin.job() == (0, MIRRORED_SLOT[(env.job() or (0, 0))[1]])
    driver = env.make_expert(5)
    for _ in range(70):
        action = driver.act()
        seen, *_ = env.step(action)
        other, *_ = twin.step(np.append(reflect(action[:7], joints), action[7]))
    assert abs(seen[26] - 0.02) > 0.01  # the red cube is on its way
    part = [i for i, name in enumerate(names) if not name.startswith("qd")]
    np.testing.assert_allclose(other[part], reflect(seen, names)[part], atol=2e-2)


def test_demonstrations() -> None:
    data = collect("swap", 1, seed=3, action="ee")
    assert data.name == "swap" and data.arrays["observations"].shape == (data.steps, 42)
    assert data.arrays["actions"].shape == data.arrays["executed"].shape == (data.steps, 10)
    assert (data.arrays["rewards"][-10:] == 1).all()
    relative = data.info["relative"]
    assert relative["red_x"] == relative["blue_x"] == "ee_x" and relative["blue_xz"] == "ee_xz"
    assert "red_yx" not in relative and data.info["groups"]["objects"] == [24, 42]
    assert data.info["env_args"]["env_name"] == "dfplan/Swap-v1"
    both = envs.prepare("swap", data)
    assert len(both) == 2
    rows, image = np.split(both.arrays["observations"], 2)
    np.testing.assert_allclose(image[:, [25, 34]], -rows[:, [25, 34]], atol=1e-6)
    with pytest.raises(ValueError, match="SwapEnv"):
        expert("arm-pick", SwapEnv(), 0)


class _Silent:
    """A bus on which nobody listens."""

    def subscribe(self, *_: Any) -> None: ...

    def serve(self, *_: Any) -> None: ...

    def advertise(self, *_: Any) -> Any:
        return lambda *_: None

    def now(self) -> float:
        return 0.0


def test_the_simulated_arm_behind_ros_counts_the_moves() -> None:
    node = ArmNode(_Silent(), ArmSettings(task="swap", seed=3))  # type: ignore[arg-type]
    cube, slot = node.env.job()
    node.env.physics.data.qpos[9 + 7 * cube : 16 + 7 * cube] = [*SLOTS[slot], 0.02, 1.0, 0.0, 0.0, 0.0]
    for tick in range(40):
        node.step(0.005 * tick)
    assert node.env.moves == 1 and 0.3 < float(str(node.report()["progress"])) < 0.7


def test_the_expert_goes_on_though_a_student_never_comes_to_rest() -> None:
    env = SwapEnv(action="ee", terminate_on_success=False)
    env.reset(seed=0)
    driver, rests = env.make_expert(0), np.append(env.truth()[15:24], 0.08)
    cube, slot = env.job()
    env.physics.data.qpos[9 + 7 * cube : 16 + 7 * cube] = [*SLOTS[slot], 0.02, 1.0, 0.0, 0.0, 0.0]
    down = []
    for step in range(60):
        command = driver.act()
        down.append(env.tcp()[0][2] - panda.forward(command[:7])[0][2])
        env.step(rests + 0.012 * np.sin(step) * np.eye(10)[1])  # about the middle, never still
    assert env.moves == 1
    assert max(down[5:15]) < 0.008 < np.median(down[40:])  # first it rests, then it goes for the next cube


@pytest.mark.parametrize("where", ["over the next cube", "far from everything"])
def test_the_expert_does_not_call_back_a_student_that_skipped_the_middle(where: str) -> None:
    env = SwapEnv(action="ee", terminate_on_success=False)
    env.reset(seed=0)
    driver, lower = env.make_expert(0), []
    for step in range(150):
        if step == 40:  # the first move is done while the hand is away from the middle
            put(env, *env.job())
        command = driver.act()
        aim = env.cube((env.job() or (0, 0))[0])[0] + [0.015, 0.0, 0.06]
        place = aim if where == "over the next cube" and env.moves else np.array([0.5, -0.3, 0.3])
        env.step(np.concatenate([place, rotations.rot6d(panda.DOWN), [0.08]]))
        lower.append(env.tcp()[0][2] - panda.forward(command[:7])[0][2])
    assert env.moves == 1
    assert np.median(lower[-25:]) > 0.008  # it shows the way down to the cube, and not the way to the middle
